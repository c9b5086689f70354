#!/bin/bash
# Installs the real Autobahn test suite into target/autobahn.
#
# The suite runs on Python 2.7 only, which Debian last had in bullseye. Its packages are fetched by apt
# from the mirror that this machine uses anyway, checked by apt, and unpacked beside the suite: the
# system itself is not changed. On amd64 only: elsewhere its libraries have no wheels for Python 2.7.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
target=$root/target/autobahn
stamp=$(cat "$here/install.sh" "$here/requirements-py2.txt" | sha256sum | cut -d' ' -f1)
if [[ -f $target/stamp && $(cat "$target/stamp") == "$stamp" ]]; then
    exit 0
fi
rm -rf "$target"
mkdir -p "$target"/{apt/lists/partial,apt/cache/archives/partial,debs,root,wheels}

# apt itself says where this release comes from, whatever the format of its sources.
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mirror=$(apt-get update --print-uris | sed -n "s#^'\(.*\)/dists/\($codename\|stable\)/InRelease'.*#\1#p")
mirror=${mirror%%$'\n'*}
if [[ -z $mirror ]]; then
    echo "install.sh: apt has no source for '$codename'" >&2
    exit 1
fi
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" > "$target/apt/sources.list"
apt=(apt-get -qq
    -o "Dir::Etc::sourcelist=$target/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::main=/dev/null -o "Dir::State::lists=$target/apt/lists"
    -o "Dir::Cache=$target/apt/cache" -o "APT::Sandbox::User=$(id -un)")
"${apt[@]}" update
(cd "$target/debs" && "${apt[@]}" download \
    python2.7-minimal libpython2.7-minimal libpython2.7-stdlib libffi7 libssl1.1)
for deb in "$target"/debs/*.deb; do
    dpkg -x "$deb" "$target/root"
done

# pip 20.3.4 is the last for Python 2.7; it runs from its wheel.
python3 -m venv "$target/venv"
"$target/venv/bin/pip" download -q --no-deps --no-cache-dir pip==20.3.4 -d "$target/wheels"
export PYTHONHOME=$target/root/usr PYTHONWARNINGS=ignore PYTHONDONTWRITEBYTECODE=1
export LD_LIBRARY_PATH=$(dirname "$(find "$target/root/usr/lib" -name 'libssl.so.1.1')")
pip=("$target/root/usr/bin/python2.7" "$target/wheels/pip-20.3.4-py2.py3-none-any.whl/pip"
    install -q --disable-pip-version-check --no-python-version-warning --no-deps --no-compile)
"${pip[@]}" --only-binary=:all: --target "$target/build" setuptools==44.1.1
PYTHONPATH=$target/build "${pip[@]}" --no-build-isolation --target "$target/site" -r "$here/requirements-py2.txt"
cp -r "$target/build/pkg_resources" "$target/site/"
touch "$target/site/zope/__init__.py"
rm -rf "$target"/{apt,debs,build,wheels,venv}
echo "$stamp" > "$target/stamp"
