"""The workflows, as far as one can tell without running them: what may write where, and when a release is refused."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
(VERSION,) = (
    line.split('"')[1] for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version = ")
)


def scripts() -> list[tuple[str, str]]:
    """Return every script of every workflow, with the name of its file."""
    return [
        (path.name, step["run"])
        for path in WORKFLOWS
        for job in yaml.safe_load(path.read_text())["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]


def test_what_a_workflow_may_write_is_written_down_and_jobs_end() -> None:
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path.name
        assert all(job["timeout-minutes"] <= 120 for job in workflow["jobs"].values()), path.name


def test_no_script_of_a_release_has_text_of_others_pasted_in() -> None:
    assert [script for name, script in scripts() if name == "release.yml" and "${{" in script] == []


@pytest.mark.parametrize(("tag", "status"), [(f"v{VERSION}", 0), ("v99.0.0", 1), (VERSION, 1)])
def test_a_tag_that_is_not_the_version_is_not_released(tag: str, status: int, tmp_path: Path) -> None:
    told = tmp_path / "environment"
    (script,) = (step["run"] for step in RELEASE["jobs"]["build"]["steps"] if "The tag is" in step.get("name", ""))
    environment = {
        "PATH": os.environ["PATH"],
        "GITHUB_REF_NAME": tag,
        "GITHUB_REPOSITORY": "Someone/Track-Unmix",
        "GITHUB_ENV": str(told),
        "NAME": "track-unmix-rest",
        "ARCHITECTURE": "arm64",
    }
    done = subprocess.run(["bash", "-e", "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    if status == 0:
        image = f"ghcr.io/someone/track-unmix/track-unmix-rest:{VERSION}-arm64"
        assert told.read_text() == f"VERSION={VERSION}\nIMAGE={image}\n"
    else:
        assert "make version-set" in done.stdout
        assert not told.exists()


def test_both_images_are_built_for_both_architectures_and_signed_after_they_were_scanned() -> None:
    matrix = RELEASE["jobs"]["build"]["strategy"]["matrix"]
    assert [(ROOT / image / "Dockerfile").is_file() for image in matrix["image"]] == [True, True]
    assert matrix["architecture"] == ["amd64", "arm64"]
    publish = RELEASE["jobs"]["publish"]
    assert publish["needs"] == "build"
    sign = publish["steps"][-1]["run"]
    for image in matrix["image"]:
        assert f"track-unmix-{image}" in sign
    for architecture in matrix["architecture"]:
        assert f"$version-{architecture}" in sign
    used = [step.get("uses", "").partition("@")[0] for step in RELEASE["jobs"]["build"]["steps"]]
    assert used.index("docker/build-push-action") < used.index("anchore/scan-action")


def test_whoever_verifies_a_signature_asks_for_the_workflow_that_signs() -> None:
    page = (ROOT / "docs" / "images.md").read_text()
    assert "/.github/workflows/release.yml@refs/tags/v" in page
    assert "--certificate-oidc-issuer https://token.actions.githubusercontent.com" in page
