"""A Python that has a package which this one lacks."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import venv


def with_package(requirement):
    """Goes on in a Python that has the package, "name==version": this one, if it has any version; or one
    of an environment of its own in $BRAID_PREFIX (default: ~/.cache/braid), made at the first time, in which the
    program starts again."""
    name = requirement.split("==")[0].replace("-", "_")
    if importlib.util.find_spec(name) is not None:
        return
    prefix = pathlib.Path(os.environ.get("BRAID_PREFIX") or
                          pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "braid")
    environment = prefix / requirement.replace("==", "-")
    python = environment / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == environment.resolve():
        sys.exit(f"error: {environment} holds no {name}; delete it and try again")
    if not (environment / "complete").exists():
        print(f"Installing {requirement} into {environment}", file=sys.stderr)
        try:
            venv.create(environment, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"error: could not install {requirement} into {environment} ({error}); install {name} yourself "
                     "and run this with its Python")
        (environment / "complete").touch()
    os.execv(python, [str(python), *sys.argv])
