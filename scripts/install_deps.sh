#!/bin/sh
# install_deps.sh programs|tests|deb: what building or testing needs and this machine lacks, from Debian packages. What
# is there is seen by using it, wherever it comes from. With nothing missing this does nothing and needs no rights.
# Environment: CC, CXX.
set -eu
: "${CC:=gcc}" "${CXX:=g++}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Does a program with these headers and libraries build? compiles COMPILER HEADERS [FLAGS ...]; of $language, c or c++
compiles() {
  compiler=$1 headers=$2
  shift 2
  for h in $headers; do echo "#include <$h>"; done >"$work/try.c"
  echo 'int main(void) { return 0; }' >>"$work/try.c"
  $compiler -DPCRE2_CODE_UNIT_WIDTH=8 -x "${language:-c}" "$work/try.c" -x none -o "$work/try" "$@" >/dev/null 2>&1
}

c_compiler() { compiles "$CC" stdio.h -pthread; }
cxx_compiler() { (language=c++ && compiles "$CXX" cstdio -pthread); }
sanitizers() { compiles "$CC" '' -fsanitize=address,undefined && compiles "$CC" '' -fsanitize=thread; }
python() { python3 -c 'import concurrent.futures, ctypes, json, pty, subprocess'; }
library() { compiles "$CC" "$1" "$2"; }

# A line each: how it is seen, what it is called, the Debian packages.
compiler_package() { case $1 in *clang*) echo clang ;; *) echo "$2" ;; esac; }
tools="c_compiler|a C compiler ($CC)|$(compiler_package "$CC" gcc) libc6-dev"
test_tools="cxx_compiler|a C++ compiler ($CXX)|$(compiler_package "$CXX" g++)
sanitizers|the libraries of $CC's sanitizers|$(compiler_package "$CC" gcc)
python|python3 with its standard library|python3
command -v strace|strace|strace"
libraries='library zstd.h -lzstd|zstd|libzstd-dev
library xxhash.h -lxxhash|xxhash|libxxhash-dev
library jansson.h -ljansson|jansson|libjansson-dev
library pcre2.h -lpcre2-8|pcre2 of 8 bits|libpcre2-dev
library utf8proc.h -lutf8proc|utf8proc|libutf8proc-dev
library histedit.h -ledit|libedit|libedit-dev
library hwloc.h -lhwloc|hwloc|libhwloc-dev'
test_libraries='library "stdarg.h stddef.h setjmp.h stdint.h cmocka.h" -lcmocka|cmocka|libcmocka-dev'
deb_tools='command -v dpkg-deb|dpkg-deb|dpkg
command -v dpkg-shlibdeps|dpkg-shlibdeps|dpkg-dev'

# The lines of a list that this machine lacks.
lacking() {
  printf '%s\n' "$1" | while IFS='|' read -r seen name packages; do
    eval "$seen" </dev/null >/dev/null 2>&1 || printf '%s|%s\n' "$name" "$packages"
  done
}
names_of() { printf '%s\n' "$1" | sed 's/|.*//' | paste -sd, | sed 's/,/, /g'; }

provide() {
  lacks=$(lacking "$1")
  [ -n "$lacks" ] || return 0
  names=$(names_of "$lacks")
  install="apt-get install -y --no-install-recommends $(printf '%s\n' "$lacks" | sed 's/.*|//' | paste -sd' ')"
  sudo=
  if ! command -v apt-get >/dev/null; then
    echo "install_deps: missing here: $names; there is no apt-get to install it with" >&2
    exit 1
  elif [ "$(id -u)" != 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null || {
      echo "install_deps: missing here: $names; run as root: apt-get update && $install" >&2
      exit 1
    }
  fi
  echo "install_deps: installing $names"
  # A package list of an earlier day may name files that are gone: fetch it anew.
  $sudo apt-get update -qq
  $sudo env DEBIAN_FRONTEND=noninteractive $install >/dev/null
  lacks=$(lacking "$1")
  [ -z "$lacks" ] || {
    echo "install_deps: installed, and still not usable: $(names_of "$lacks")" >&2
    exit 1
  }
}

# Compilers first: libraries are seen with them.
case ${1:-} in
programs) ;;
tests)
  tools="$tools
$test_tools"
  libraries="$libraries
$test_libraries"
  ;;
deb)
  tools=$deb_tools
  libraries=
  ;;
*)
  echo "usage: install_deps.sh programs|tests|deb" >&2
  exit 2
  ;;
esac
provide "$tools"
[ -z "$libraries" ] || provide "$libraries"
