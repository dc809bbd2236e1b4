#!/usr/bin/env bash
# gcc 12.2.0 (Debian 12's), `_tile_loadconfig` of <immintrin.h>.
#
# A good engineer would guess: it reads the 64 bytes that it is given, which say how many rows and columns each tile has.
# Seen: its header says that it reads the first 8 (GCC's bug 114098), so that an optimised program does not write the
# others. The processor reads what lay there, and raises a fault: llama.cpp, which llama-cpp-python 0.3.36 compiles for the
# machine at hand, ended with signal 11 at the first prompt to a q8_0 and a q4_k_m file on a CPU with AMX, and read f16.
# `make llama-cpp` compiles without AMX. This looks at the assembly of the gcc that is installed: any CPU shows it.
# 30 November 2026.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/tiles.c" <<'C'
#include <immintrin.h>

void configure(void) {
    unsigned char tiles[64] __attribute__((aligned(64))) = {0};
    tiles[0] = 1;   // the palette
    tiles[48] = 77; // the rows of tile 0
    _tile_loadconfig(tiles);
}
C
gcc -O3 -mamx-tile -S -o "$folder/tiles.s" "$folder/tiles.c"
written() { grep -c "movb.*\$$1," "$folder/tiles.s" || true; }
seen="the palette is written $(written 1) times, the rows $(written 77) times"
echo "gcc $(gcc -dumpfullversion): $seen"
# Output seen:
#   gcc 12.2.0: the palette is written 1 times, the rows 0 times
test "$seen" = "the palette is written 1 times, the rows 0 times" || { echo "this gcc is mended"; exit 1; }
