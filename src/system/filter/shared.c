// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What the network cards of all VMs of a lab would drop, run on each frame on its way out to a TAP.
//
// The object beside this file is what the program loads, so that building the program takes no clang. After a change,
// scripts/build-bpf.sh builds the object anew; commit both. scripts/test.sh holds that the object is what the source
// gives, byte for byte.
//
// It includes no header of the system, so that it builds wherever clang does. The numbers are those of linux/bpf.h,
// linux/pkt_cls.h and if_ether.h.
//
// A flooded frame comes by once for each port, and is looked up by its own addresses only, not by the port: so it finds
// the same entries in the processor's cache, however many ports there are.

#include "../bpf.h"

enum { TC_ACT_OK = 0, TC_ACT_STOLEN = 4 };
// What stands for a port if several want a frame, and if nobody does.
enum { SEVERAL = 0, NOBODY = 0xffffffff };

struct __sk_buff {
	u32 before[10];
	u32 ifindex;
	u32 between[8];
	u32 data;
	u32 data_end;
};


// The ifindex of the one TAP that wants frames for a hardware address, be it a VM's or a group's; 0: several do. Keys
// are the address's bytes from the last to the first: as they are, the addresses of a lab differ only where the hash of
// the map hardly looks, and collide.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u32);
	__uint(max_entries, 1);
} destinations SEC(".maps");

// The same for ARP requests that name an IPv4 address, in network byte order, as a number.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, u32);
	__uint(max_entries, 1);
} owners SEC(".maps");

// By ifindex: TAPs of VMs that look for an IPv4 address, and hear all requests meanwhile.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u32);
	__type(value, u32);
	__uint(max_entries, 1);
} seekers SEC(".maps");

struct state {
	// Goes up when anything in the maps above has changed.
	u32 edition;
	// How many seekers there are: mostly none, and then a frame need not be looked for by its port.
	u32 seekers;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct state);
	__uint(max_entries, 1);
} state SEC(".maps");

// Whose the addresses are that an ARP request names.
struct request {
	u32 edition;
	u32 target;
	u32 sender;
	u32 target_port;
	u32 sender_port;
};

// The last one that came by on each processor: it comes by for one port after the other.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct request);
	__uint(max_entries, 1);
} requests SEC(".maps");

struct arp {
	u16 destination[3];
	u8 source[6];
	u16 ether_type;
	u16 hardware;
	u16 protocol;
	u8 lengths[2];
	u16 operation;
	u8 sender_mac[6];
	u16 sender[2];
	u8 target_mac[6];
	u16 target[2];
} __attribute__((packed, aligned(2)));

// UDP in IPv4 without options.
struct udp {
	u8 ethernet[14];
	u8 version;
	u8 service;
	u16 length;
	u16 identification;
	u16 fragment;
	u8 time_to_live;
	u8 protocol;
	u16 checksum;
	u32 source;
	u32 destination;
	u16 source_port;
	u16 destination_port;
} __attribute__((packed, aligned(2)));

#define INLINE static inline __attribute__((always_inline))

INLINE u32 port_of(void *map, const void *key)
{
	u32 *port = bpf_map_lookup_elem(map, key);

	return port ? *port : NOBODY;
}

INLINE int is_for(struct __sk_buff *frame, u32 port)
{
	return port == SEVERAL || port == frame->ifindex;
}

INLINE int is_request_for(struct __sk_buff *frame, struct arp *arp)
{
	u32 zero = 0;
	struct state *now = bpf_map_lookup_elem(&state, &zero);
	struct request *request = bpf_map_lookup_elem(&requests, &zero);
	u32 target = (u32)arp->target[1] << 16 | arp->target[0];
	u32 sender = (u32)arp->sender[1] << 16 | arp->sender[0];
	u32 port;

	if (target == sender || !now || !request)
		return 1;
	if (request->target != target || request->sender != sender || request->edition != now->edition) {
		// Before the maps are asked: what changes meanwhile makes another edition.
		request->edition = *(volatile u32 *)&now->edition;
		request->target = target;
		request->sender = sender;
		request->target_port = port_of(&owners, &target);
		request->sender_port = port_of(&owners, &sender);
	}
	if (is_for(frame, request->target_port) || is_for(frame, request->sender_port))
		return 1;
	port = frame->ifindex;
	return now->seekers && bpf_map_lookup_elem(&seekers, &port);
}

SEC("classifier")
int network_cards(struct __sk_buff *frame)
{
	u8 *data = (u8 *)(u64)frame->data;
	u8 *end = (u8 *)(u64)frame->data_end;
	struct arp *arp = (struct arp *)data;
	struct udp *udp = (struct udp *)data;
	u64 destination;

	// What does not lie where it can be read passes: only a kernel's stack writes such frames.
	if (data + 14 > end)
		return TC_ACT_OK;
	destination = (u64)arp->destination[2] << 32 | (u32)arp->destination[1] << 16 | arp->destination[0];
	if (destination != 0xffffffffffff)
		return is_for(frame, port_of(&destinations, &destination)) ? TC_ACT_OK : TC_ACT_STOLEN;
	// Numbers are as a little-endian processor reads them: ARP, "request", IPv4, what tells a fragment, port 67.
	if (arp->ether_type == 0x0608) {
		if (data + sizeof(*arp) > end || arp->operation != 0x0100 || is_request_for(frame, arp))
			return TC_ACT_OK;
		return TC_ACT_STOLEN;
	}
	if (arp->ether_type == 0x0008 && data + sizeof(*udp) <= end && udp->version == 0x45 && udp->protocol == 17 &&
	    !(udp->fragment & 0xff3f) && udp->destination_port == 0x4300)
		return TC_ACT_STOLEN;
	return TC_ACT_OK;
}
