"""On which test images an addition gained and lost."""

from __future__ import annotations

import numpy as np
import pytest

from trainers.uplift.changes import SHOWN, most_changed, right_less_wrong
from trainers.uplift.matches import match, pack, unpack
from trainers.uplift.predictions import Predictions

BOX, ELSEWHERE = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def detected(*images, classes=2):
    """The matches, by way of what is kept of them, of images given as (objects, detections): (box, label) and (box, score, label) each."""
    truth = [(np.array([b for b, _ in o], dtype=float).reshape(-1, 4), np.array([k for _, k in o], dtype=np.int64)) for o, _ in images]
    found = [
        (np.array([b for b, _, _ in d], dtype=float).reshape(-1, 4), np.array([s for _, s, _ in d]), np.array([k for _, _, k in d], dtype=np.int64))
        for _, d in images
    ]
    return unpack(pack(match(truth, found, classes=classes)))


def test_an_object_found_counts_for_its_image_and_a_false_alarm_against_it():
    run = detected(
        ([(BOX, 0)], [(BOX, 0.9, 0)]),
        ([(BOX, 0)], [(ELSEWHERE, 0.8, 0)]),
        ([(BOX, 1)], [(BOX, 0.7, 1)]),
    )
    assert right_less_wrong(run, [0]).tolist() == [1, -1, 0]
    assert right_less_wrong(run, [0, 1]).tolist() == [1, -1, 1]


def test_of_a_class_as_many_detections_count_as_it_has_objects_the_surest_first():
    """A detector that says everything of everything is not called better for it."""
    run = detected(([(BOX, 0)], [(ELSEWHERE, 0.9, 0), (BOX, 0.5, 0)]), ([], [(BOX, 0.8, 0)]), classes=1)
    assert right_less_wrong(run, [0]).tolist() == [-1, 0]


def test_a_whole_image_taken_for_a_class_that_it_is_not_counts_against_it():
    run = Predictions(truth=np.array([0, 0, 1, 1]), said=np.array([0, 1, 0, 1]))
    assert right_less_wrong(run, [0]).tolist() == [1, 0, -1, 0]
    assert right_less_wrong(run, [0, 1]).tolist() == [1, -1, -1, 1]


def test_those_that_lost_most_come_first_and_what_stayed_is_left_out():
    truth = np.array([0, 0, 0, 1])
    before = [Predictions(truth, np.array(said)) for said in ([0, 1, 0, 1], [0, 1, 0, 1])]
    after = [Predictions(truth, np.array(said)) for said in ([1, 0, 0, 1], [0, 0, 0, 1])]
    assert most_changed(before, after, [0]) == [{"position": 0, "before": 1.0, "after": 0.5}, {"position": 1, "before": 0.0, "after": 1.0}]
    assert most_changed(before, before, [0]) == []


def test_no_more_are_shown_than_a_person_looks_at():
    truth = np.zeros(40, dtype=np.int64)
    right, wrong = Predictions(truth, truth), Predictions(truth, truth + 1)
    assert len(most_changed([right], [wrong], [0])) == SHOWN
    assert len(most_changed([wrong], [right], [0])) == SHOWN


@pytest.mark.parametrize("labels", [[0], [0, 1]])
def test_what_a_team_s_own_trainer_says_is_of_no_single_image(labels):
    assert most_changed([{"liking": 1.0}], [{"liking": 2.0}], labels) == []
