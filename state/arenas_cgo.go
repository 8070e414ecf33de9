//go:build cgo && linux

package state

/*
#include <malloc.h>

static void one_arena(void) {
#ifdef __GLIBC__
	mallopt(M_ARENA_MAX, 1);
#endif
}
*/
import "C"

// limitArenas keeps glibc from giving every thread an arena of its own. Pebble takes
// its cache from malloc; reads on many threads left it spread over all arenas, and
// the process grew to twice what was in use. It holds for the whole process.
func limitArenas() { C.one_arena() }
