"""What the tests with Docker share: the four nodes in containers."""

import os

import pytest
from programs import PROJECT, Project


@pytest.fixture(scope="session")
def compose():
    """The four nodes in containers; afterwards everything of the tests' project is gone."""
    from helpers.cluster import compose as backend

    learners, backend.PROJECT = backend.PROJECT, PROJECT
    os.environ["COMPOSE_PROJECT_NAME"] = PROJECT  # the kernels of notebooks inherit it
    project = Project()
    try:
        project.up()
        yield project
    finally:
        project.down("--volumes")
        backend.PROJECT = learners
        del os.environ["COMPOSE_PROJECT_NAME"]
