"""`python -m services.api`: serves the API until told to stop."""

from __future__ import annotations

import uvicorn

from infra.settings import Settings
from services.api.app import create_app


def main() -> None:
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.api_host, port=settings.api_port, log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
