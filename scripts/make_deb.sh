#!/bin/sh
# make_deb.sh ROOT VERSION OUT: the folder that `make install` made with PREFIX=/usr as OUT/tpshard_VERSION-1_ARCH.deb.
# ROOT becomes the package's. Times are those of the last commit, or SOURCE_DATE_EPOCH's: the same programs give the
# same bytes.
set -eu
umask 022
root=$1 version=$2-1 out=$3
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}"
maintainer="${DEBFULLNAME:-tpshard maintainers} <${DEBEMAIL:-maintainers@tpshard.invalid}>"
arch=$(dpkg --print-architecture)
doc=$root/usr/share/doc/tpshard

gzip -9n "$root"/usr/share/man/man1/*.1
mv "$doc/CHANGELOG.md" "$doc/changelog"
printf 'tpshard (%s) unstable; urgency=medium\n\n  * Built from the sources; changelog.gz says what is new.\n\n -- %s  %s\n' \
  "$version" "$maintainer" "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" >"$doc/changelog.Debian"
gzip -9n "$doc/changelog" "$doc/changelog.Debian"
rm "$doc/LICENSE"
cat >"$doc/copyright" <<'END'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: tpshard

Files: *
Copyright: 2026 the tpshard authors
License: Apache-2.0
 On Debian systems, the text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
END

# Packages of the libraries that the programs are linked with, by their own lists of symbols.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/debian"
printf 'Source: tpshard\n\nPackage: tpshard\nArchitecture: any\n' >"$work/debian/control"
mkdir "$root/DEBIAN" # by which dpkg-shlibdeps knows a package's folder
programs=$(cd "$root" && echo "$PWD"/usr/bin/*)
depends=$(cd "$work" && dpkg-shlibdeps -O $programs | sed -n 's/^shlibs:Depends=//p')

(cd "$root" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$root/DEBIAN/md5sums"
cat >"$root/DEBIAN/control" <<END
Package: tpshard
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(find "$root/usr" -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
Depends: $depends
Section: science
Priority: optional
Description: tensor-parallel model bundles, and a runtime for them
 tpshard converts a Hugging Face checkpoint once into a bundle: a packed,
 hashed file for each tensor-parallel rank, of any degree from 1 to 48.
 tprun maps these files and runs the model on the CPU or on NVIDIA GPUs,
 with the same bits at every degree.
END
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/tpshard_${version}_$arch.deb" >/dev/null
echo "$out/tpshard_${version}_$arch.deb"
