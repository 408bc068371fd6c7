"""What `longtail up` writes into its state directory."""

from __future__ import annotations

import json
import threading

from infra.embedded import Stack, write_whole


def test_a_state_directory_of_before_gets_what_it_lacks_and_keeps_what_it_has(tmp_path):
    of_before = {"api_key": "a", "s3_access_key": "b", "s3_secret_key": "c", "webhook_secret": "d", "encryption_key": "e"}
    (tmp_path / "secrets.json").write_text(json.dumps(of_before))
    settings, secret = Stack(tmp_path, say=lambda line: None)._settings()
    assert of_before.items() <= secret.items()
    assert settings.ray_token == secret["ray_token"] == json.loads((tmp_path / "secrets.json").read_text())["ray_token"]
    assert (tmp_path / "secrets.json").stat().st_mode & 0o77 == 0


def test_who_reads_a_file_while_it_is_written_finds_it_whole(tmp_path):
    """`longtail status` and `down` read while the stack writes down which part it started again."""
    file, stop = tmp_path / "pids.json", threading.Event()
    write_whole(file, "{}")

    def write():
        while not stop.is_set():
            write_whole(file, json.dumps({f"part {n}": n for n in range(500)}))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(isinstance(json.loads(file.read_text()), dict) for _ in range(3000))
    finally:
        stop.set()
        writer.join()
    assert file.stat().st_mode & 0o77 == 0
