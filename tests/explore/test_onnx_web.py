"""Where onnxruntime-web comes from."""

import tarfile

import pytest

from gan_jax.explore.onnx_web import FILES, VERSION, OnnxWebError, onnx_web


def test_a_folder_or_an_archive_is_taken(tmp_path):
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(name)
    expected = {name: name.encode() for name in FILES}
    assert onnx_web(str(folder)) == onnx_web(str(folder.parent)) == expected
    with tarfile.open(tmp_path / "web.tgz", "w:gz") as archive:
        archive.add(folder.parent, arcname="package")
    assert onnx_web(str(tmp_path / "web.tgz")) == expected


@pytest.mark.parametrize("given", ["nowhere", "empty", "text.tgz"])
def test_what_is_no_package_is_refused(tmp_path, given):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tgz").write_text("text")
    with pytest.raises(OnnxWebError, match=f"{given} is the archive of onnxruntime-web or its folder"):
        onnx_web(str(tmp_path / given))


def test_without_npm_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OnnxWebError, match=f"npm is not installed: run npm pack onnxruntime-web@{VERSION}"):
        onnx_web()


def npm_that(tmp_path, script):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)


def test_npm_that_fails_is_quoted(monkeypatch, tmp_path):
    npm_that(tmp_path, "echo 'npm error network is down' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(OnnxWebError, match=r"npm cannot fetch onnxruntime-web \(npm error network is down\)"):
        onnx_web()


def test_another_archive_than_the_known_one_is_refused(monkeypatch, tmp_path):
    npm_that(tmp_path, "echo evil > web.tgz")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(OnnxWebError, match="fetched another onnxruntime-web"):
        onnx_web()
