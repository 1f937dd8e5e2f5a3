// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What all BPF programs here have in common: short names of types, and the words of libbpf for maps and sections.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
#define INLINE static inline __attribute__((always_inline))

// The numbers are those of linux/bpf.h.
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_DEVMAP = 14,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_F_NO_PREALLOC = 1 };

// The kernel's structures are read directly, as it lets programs at typed tracepoints: to copy a member takes ten times as
// long. A pointer that leads nowhere reads as nothing.
#define MEMBER(type, structure, offset) (*(type *)((const u8 *)(structure) + (offset)))

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
