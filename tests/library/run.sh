#!/bin/sh
# Programs outside the tree, linked with the installed library: run.sh static|shared CMAKE SOURCE_DIR BUILD_DIR
# CC, CXX, CFLAGS, CXXFLAGS and LDFLAGS are those of the build.
set -eu
kind=$1 cmake=$2 source=$3 build=$4
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log=$folder/log
quietly() { "$@" > "$log" 2>&1 || { cat "$log"; echo "failed: $*"; exit 1; }; }

quietly "$cmake" --install "$build" --prefix "$folder/program"
quietly "$cmake" --install "$build" --prefix "$folder/first" --component "liveavatar_$kind"
mv "$folder/first" "$folder/installed"  # nothing in it may know where it was put
program=$folder/program
installed=$folder/installed
model=$program/share/liveavatar/models/mini
demo=$program/share/liveavatar/assets/demo
cd "$folder"
if grep -rlE "$source|$folder/first" "$installed/include" "$installed"/lib*/cmake "$installed"/lib*/pkgconfig; then
  echo "these files name a folder of the build"; exit 1
fi

# PROGRAM [SECONDS] -> a video that can be read again.
makes_a_video() {
  made_by=$1; shift
  quietly env LD_LIBRARY_PATH="$installed/lib" "$made_by" "$model" "$demo/portrait.png" "$demo/voice.wav" made.mp4 "$@"
  quietly "$program/bin/liveavatar" sheet made.mp4 made.png
  rm made.mp4 made.png
}

cp -r "$source/examples" examples
quietly "$cmake" -S examples -B by_cmake -DCMAKE_PREFIX_PATH="$installed"
quietly "$cmake" --build by_cmake
makes_a_video by_cmake/first_video 0.4
makes_a_video by_cmake/first_video_c 0.4
head -c 48000 /dev/zero > silence.raw
LD_LIBRARY_PATH="$installed/lib" by_cmake/live_c "$model" "$demo/portrait.png" silence.raw > frames
grep -q "^frames 0..4, 3840 samples" frames
# A project of C alone.
mkdir c_alone
cat > c_alone/CMakeLists.txt <<'PROJECT'
cmake_minimum_required(VERSION 3.25)
project(c_alone LANGUAGES C)
find_package(liveavatar REQUIRED)
add_executable(c_alone ../examples/first_video.c)
target_link_libraries(c_alone PRIVATE liveavatar::liveavatar)
PROJECT
quietly "$cmake" -S c_alone -B c_alone -DCMAKE_PREFIX_PATH="$installed"
quietly "$cmake" --build c_alone
makes_a_video c_alone/c_alone 0.4

sed -i 's/liveavatar 0.1/liveavatar 99/' examples/CMakeLists.txt
if "$cmake" -S examples -B other -DCMAKE_PREFIX_PATH="$installed" > "$log" 2>&1; then
  echo "version 99 was found"; exit 1
fi

# The programs of docs/library.md.
for language in c cpp; do
  awk -v fence="\`\`\`$language" '$0 == "```" { inside = 0 } inside { print } $0 == fence { inside = 1 }' \
    "$source/docs/library.md" > "doc.$language"
done
PKG_CONFIG_PATH=$(dirname "$(find "$installed" -name liveavatar.pc)")
export PKG_CONFIG_PATH
flags=$(pkg-config --cflags --libs liveavatar)
# shellcheck disable=SC2086
quietly $CC -std=c99 -Wall -Wextra -pedantic -Werror ${CFLAGS:-} doc.c $flags -o doc_c
# shellcheck disable=SC2086
quietly $CXX -std=c++20 -Wall -Wextra -pedantic -Werror ${CXXFLAGS:-} doc.cpp $flags -o doc_cpp
makes_a_video ./doc_c
makes_a_video ./doc_cpp

if [ "$kind" = shared ]; then
  # Ours that it shows: the public headers' names. The rest is the standard library's inline code.
  nm -DC --defined-only "$installed/lib/libliveavatar.so" | cut -d' ' -f3- | grep -E "^((typeinfo|typeinfo name|vtable) for )?(liveavatar|la_)" > shown
  grep -vE "^la_[a-z_]+$|^((typeinfo|typeinfo name|vtable) for )?liveavatar::(Engine|LiveSession|VideoFile|version\(\)|[a-z_]+_name\(|parse_[a-z_]+\()" shown > hidden ||
    true
  if [ -s hidden ]; then cat hidden; echo "these names should be hidden"; exit 1; fi
  grep -q "^la_generate$" shown
  readelf -d "$installed/lib/libliveavatar.so" | grep -q "SONAME.*libliveavatar\.so\.[0-9]"
  if readelf -d "$program/bin/liveavatar" | grep libliveavatar; then
    echo "the program needs the shared library"; exit 1
  fi
fi
