"""onnxruntime-web, which runs ONNX in a browser: fetched by npm when a static folder is written, or given.

It is used with a single thread, which needs no special headers of the file server; the files are those of the plain
WebAssembly build.
"""

from __future__ import annotations

import base64
import hashlib
import io
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

VERSION = "1.24.3"
SHA512 = "41dDq7fxtTm0XzGE7N0d6m8FcOY8EWtUA65GkOixJPB/G7DGzBmiDAnVVXHznRw9bgUZpb+4/1lQK/PNxGpbrQ=="
"""Of the package's archive, as npm prints it."""
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_TIMEOUT = 600


class OnnxWebError(ValueError):
    """onnxruntime-web cannot be had; the message is one line for the user."""


def onnx_web(given: str | None = None) -> dict[str, bytes]:
    """The files of onnxruntime-web that the static page needs, by name.

    Args:
      given: the package's archive (`npm pack onnxruntime-web`), or a folder that has the files, itself or in
        `dist/`; by default npm fetches the version that this one was tried with.

    Raises:
      OnnxWebError: if they cannot be had.
    """
    if given is None:
        return _of_archive(_fetched())
    path = pathlib.Path(given)
    try:
        if path.is_dir():
            folder = path / "dist" if (path / "dist").is_dir() else path
            return {name: (folder / name).read_bytes() for name in FILES}
        return _of_archive(path.read_bytes())
    except (OSError, tarfile.TarError, KeyError) as error:
        raise OnnxWebError(
            f"--onnxruntime_web={given} is the archive of onnxruntime-web or its folder, with {', '.join(FILES)} "
            f"({type(error).__name__}: {error})"
        ) from error


def _fetched() -> bytes:
    """The archive of `VERSION`, by npm and its cache."""
    npm = shutil.which("npm")
    hint = (
        f"run npm pack onnxruntime-web@{VERSION} where it can, and give --onnxruntime_web=FILE.tgz, or serve the "
        "page without --out"
    )
    if npm is None:
        raise OnnxWebError(f"the static page needs onnxruntime-web, and npm is not installed: {hint}")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--prefer-offline", "--silent"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OnnxWebError(f"npm cannot fetch onnxruntime-web ({error}): {hint}") from error
        archives = list(pathlib.Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            why = " ".join(done.stderr.split())[-200:] or f"status {done.returncode}"
            raise OnnxWebError(f"npm cannot fetch onnxruntime-web ({why}): {hint}")
        data = archives[0].read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        raise OnnxWebError(f"npm fetched another onnxruntime-web {VERSION} than expected: {hint}")
    return data


def _of_archive(data: bytes) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for name in FILES:
            file = archive.extractfile(f"package/dist/{name}")
            if file is None:
                raise KeyError(name)
            found[name] = file.read()
    return found
