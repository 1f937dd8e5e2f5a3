// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A switch of TAPs, run on each of them when it is written to: the frame goes from TAP to TAP without a bridge.
//
// The object beside this file is what the program loads, so that building the program takes no clang. After a change,
// scripts/build-bpf.sh builds the object anew; commit both. scripts/test.sh holds that the object is what the source
// gives, byte for byte.
//
// It includes no header of the system, so that it builds wherever clang does. The numbers are those of linux/bpf.h and
// if_ether.h.

#include "../../bpf.h"

enum { XDP_DROP = 1, XDP_PASS = 2, XDP_REDIRECT = 4 };
enum { BPF_F_BROADCAST = 1 << 3, BPF_F_EXCLUDE_INGRESS = 1 << 4 };

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

static long (*bpf_redirect_map)(void *map, u64 key, u64 flags) = (void *)51;

// struct bpf_devmap_val
struct device {
	u32 ifindex;
	int program;
};

// Every TAP of the lab, by its place.
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__type(key, u32);
	__type(value, struct device);
	__uint(max_entries, 1);
} ports SEC(".maps");

// Where a TAP is.
struct port {
	u32 place;
	u32 ifindex;
};

// The port of a station whose hardware address is `key`, if it is.
struct station {
	u64 key;
	struct port port;
};

enum { ENDINGS = 1 << 16 };

// By the last two bytes of a hardware address, one station that has them. Nearly always that is the one, and an array is
// read by the program itself where a hash costs it a call.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct station);
	__uint(max_entries, ENDINGS);
} endings SEC(".maps");

// The port behind a hardware address. Keys are the address's bytes from the last to the first: as they are, the
// addresses of a lab differ only where the hash of the map hardly looks, and collide.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, u64);
	__type(value, struct port);
	__uint(max_entries, 1);
} stations SEC(".maps");

// The port of the VM that has an IPv4 address, in network byte order, as a number.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, u32);
	__type(value, struct port);
	__uint(max_entries, 1);
} owners SEC(".maps");

// The place, plus one, of the one VM that is in the group with a hardware address; 0: several are.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u32);
	__uint(max_entries, 1);
} groups SEC(".maps");

struct arp {
	u8 destination[6];
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
} __attribute__((packed));

static inline __attribute__((always_inline)) u64 key_of(const u8 *mac)
{
	return (u64)mac[5] << 40 | (u64)mac[4] << 32 | (u64)mac[3] << 24 | (u64)mac[2] << 16 |
	       (u64)mac[1] << 8 | mac[0];
}

static inline __attribute__((always_inline)) int send_to(struct xdp_md *context, struct port *port)
{
	// A bridge does not send a frame back to where it came from either.
	if (port->ifindex == context->ingress_ifindex)
		return XDP_DROP;
	return bpf_redirect_map(&ports, port->place, XDP_DROP);
}

static inline __attribute__((always_inline)) int flood(void)
{
	return bpf_redirect_map(&ports, 0, BPF_F_BROADCAST | BPF_F_EXCLUDE_INGRESS);
}

// What nobody wants goes nowhere: else the reports of N VMs to a group of routers would be N² frames.
static inline __attribute__((always_inline)) int send_to_group(struct xdp_md *context, u64 key)
{
	u32 *member = bpf_map_lookup_elem(&groups, &key);
	struct device *device;
	struct port port;

	if (!member)
		return XDP_DROP;
	if (!*member)
		return flood();
	port.place = *member - 1;
	device = bpf_map_lookup_elem(&ports, &port.place);
	if (!device)
		return XDP_DROP;
	port.ifindex = device->ifindex;
	return send_to(context, &port);
}

SEC("xdp")
int tap_switch(struct xdp_md *context)
{
	u8 *data = (u8 *)(u64)context->data;
	u8 *end = (u8 *)(u64)context->data_end;
	struct port *port;
	u64 key;

	if (data + 14 > end)
		return XDP_DROP;
	key = key_of(data);
	if (!(data[0] & 1)) {
		u32 ending = (u32)data[4] << 8 | data[5];
		struct station *station = bpf_map_lookup_elem(&endings, &ending);

		if (station && station->key == key)
			return send_to(context, &station->port);
		port = bpf_map_lookup_elem(&stations, &key);
		if (port)
			return send_to(context, port);
	} else if (key != 0xffffffffffff) {
		return send_to_group(context, key);
	} else if (data + sizeof(struct arp) <= end) {
		struct arp *arp = (struct arp *)data;
		u32 target = (u32)arp->target[1] << 16 | arp->target[0];
		u32 sender = (u32)arp->sender[1] << 16 | arp->sender[0];

		// 0x0608 and 0x0100 are ARP and "request" as a little-endian processor reads them.
		if (arp->ether_type == 0x0608 && arp->operation == 0x0100 && target != sender) {
			port = bpf_map_lookup_elem(&owners, &target);
			if (port)
				return send_to(context, port);
		}
	}
	return flood();
}
