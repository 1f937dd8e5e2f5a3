// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
//
// Tells of each frame of a lab that the kernel drops: when, where, why, and its first bytes.
//
// The object beside this file is what the program loads, so that building the program takes no clang. After a change,
// scripts/build-bpf.sh builds the object anew; commit both. scripts/test.sh holds that the object is what the source
// gives, byte for byte.
//
// It includes no header of the system, so that it builds wherever clang does. The numbers are those of linux/bpf.h and
// if_ether.h.
//
// The program hangs at a tracepoint that all frames of the machine pass that are dropped: what is not of the lab has to
// be seen by little. Where the members of the kernel's structures are, the loader says.

#include "../bpf.h"

enum { NAME_BYTES = 16, FUNCTION_BYTES = 48, FRAME_BYTES = 96 };
// A copy of a flooded frame is dropped soon after the one before.
enum { SOON_NANOSECONDS = 10000000 };

static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static long (*bpf_snprintf)(char *text, u32 size, const char *format, u64 *data, u32 data_size) = (void *)165;

// Where a member is in its structure, in bytes.
struct offsets {
	u32 skb_dev;
	u32 skb_head;
	u32 skb_data;
	u32 skb_tail;
	u32 skb_mac_header;
	u32 skb_vlan_proto;
	u32 skb_vlan_tci;
	u32 device_name;
	u32 device_index;
	u32 device_net;
	u32 net_inum;
};

const volatile struct offsets offsets;
// The inode of the lab's network namespace.
const volatile u32 network_namespace;
static const char function_name[] = "%ps";

struct event {
	u64 at;
	// Where the kernel dropped it: an address, which `functions` has the name of.
	u64 location;
	u32 reason;
	// Bytes of the frame, and the tag that was taken off it, if its protocol is not 0.
	u16 length;
	u16 vlan_tci;
	u32 vlan_protocol;
	u32 unused;
	char device[NAME_BYTES];
	u8 frame[FRAME_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} events SEC(".maps");

// The number of events that the ring had no room for.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, 1);
} missed SEC(".maps");

// The inodes of the network namespaces that VMs were moved to: looking there takes as long as a third of the rest.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, u32);
	__type(value, u32);
	__uint(max_entries, 1);
} namespaces SEC(".maps");

struct function {
	char name[FUNCTION_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, u64);
	__type(value, struct function);
	__uint(max_entries, 256);
} functions SEC(".maps");

// The ifindex of the port of the VM that has a hardware address. Keys are the address's bytes from the last to the first.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, u32);
	__uint(max_entries, 1);
} stations SEC(".maps");

struct work {
	// The one that is told of, and the one before.
	struct event events[2];
	u32 turn;
	u32 unused;
	struct function function;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct work);
	__uint(max_entries, 1);
} work SEC(".maps");

INLINE int is_of_lab(const void *device)
{
	const u8 *net = MEMBER(const u8 *, device, offsets.device_net);
	u32 inode = MEMBER(u32, net, offsets.net_inum);

	return inode && (inode == network_namespace || bpf_map_lookup_elem(&namespaces, &inode));
}

INLINE void tell(struct event *event)
{
	u32 zero = 0;
	u64 *count;

	if (bpf_ringbuf_output(&events, event, sizeof(*event), 0)) {
		count = bpf_map_lookup_elem(&missed, &zero);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
}

// Linux chooses ports of its own from these (net.ipv4.ip_local_port_range), and so do VMs.
INLINE int is_ephemeral(u32 port)
{
	return port >= 32768 && port <= 60999;
}

// Probes come from such a port and go to another, replies the other way round.
INLINE int may_be_probe(const u8 *datagram)
{
	u32 from = (u32)datagram[0] << 8 | datagram[1];
	u32 to = (u32)datagram[2] << 8 | datagram[3];

	return is_ephemeral(from) != is_ephemeral(to);
}

// Streams go to the discard service, from ports above those.
INLINE int may_be_of_stream(const u8 *datagram)
{
	u32 from = (u32)datagram[0] << 8 | datagram[1];
	u32 to = (u32)datagram[2] << 8 | datagram[3];

	return to == 9 && from >= 61000;
}

// So are those of TCP that open a connection, and what answers them: a SYN or a reset. Other segments may be very many.
INLINE int may_be_syn(const u8 *segment)
{
	return may_be_probe(segment) && (segment[13] & 0x06);
}

// Echo messages and what they need of ARP and neighbour discovery; datagrams and SYNs that may be probes, or of streams; fragments, whose first one tells
// what they are of.
INLINE int may_be_ours(const u8 *frame)
{
	u32 at = 12;
	u32 type = (u32)frame[12] << 8 | frame[13];
	u32 next;

	if (type == 0x8100 || type == 0x88a8) {
		at = 16;
		type = (u32)frame[16] << 8 | frame[17];
	}
	if (type == 0x0806)
		return 1;
	if (type == 0x0800) {
		type = frame[at + 2 + 9];
		if (type != 1 && type != 6 && type != 17)
			return 0;
		if (frame[at + 2 + 6] & 0x1f || frame[at + 2 + 7])
			return 1;
		next = at + 2 + (frame[at + 2] & 15) * 4;
		if (type == 17)
			return may_be_probe(frame + next) || may_be_of_stream(frame + next);
		if (type == 6)
			return may_be_syn(frame + next);
		next = frame[next];
		return next == 8 || next == 0;
	}
	if (type == 0x86dd) {
		next = frame[at + 2 + 6];
		if (next == 44)
			return 1;
		if (next == 17)
			return may_be_probe(frame + at + 2 + 40) || may_be_of_stream(frame + at + 2 + 40);
		if (next == 6)
			return may_be_syn(frame + at + 2 + 40);
		type = frame[at + 2 + 40];
		return next == 58 && (type == 128 || type == 129 || type == 135 || type == 136);
	}
	return 0;
}

INLINE int is_at_destination(const struct event *event, const void *device)
{
	const u8 *mac = event->frame;
	u64 key = (u64)mac[5] << 40 | (u64)mac[4] << 32 | (u64)mac[3] << 24 | (u64)mac[2] << 16 | (u64)mac[1] << 8 | mac[0];
	u32 *port = bpf_map_lookup_elem(&stations, &key);

	return port && MEMBER(u32, device, offsets.device_index) == *port;
}

// A flooded frame is dropped at one port after the other: told of once, and at the port of its destination.
INLINE int is_copy(const struct event *event, const struct event *last, const void *device)
{
	const u64 *now = (const u64 *)event->frame, *before = (const u64 *)last->frame;
	const u64 *here = (const u64 *)event->device, *there = (const u64 *)last->device;
	u64 differs = 0;
	int i;

	if (event->location != last->location || event->reason != last->reason || event->length != last->length ||
	    event->at - last->at > SOON_NANOSECONDS || (here[0] == there[0] && here[1] == there[1]))
		return 0;
#pragma unroll
	for (i = 0; i < FRAME_BYTES / 8; i++)
		differs |= now[i] ^ before[i];
	return !differs && !is_at_destination(event, device);
}

SEC("tp_btf/kfree_skb")
int frame_dropped(u64 *arguments)
{
	const u8 *skb = (const u8 *)arguments[0];
	const u8 *device, *head, *start;
	u64 location = arguments[1];
	u64 length;
	u64 *name;
	u32 zero = 0;
	struct work *own;
	struct event *event, *last;

	device = MEMBER(const u8 *, skb, offsets.skb_dev);
	if (!is_of_lab(device))
		return 0;
	own = bpf_map_lookup_elem(&work, &zero);
	if (!own)
		return 0;
	head = MEMBER(const u8 *, skb, offsets.skb_head);
	start = head + MEMBER(u16, skb, offsets.skb_mac_header);
	if (start == head + 0xffff)
		start = MEMBER(const u8 *, skb, offsets.skb_data);
	length = (u64)head + MEMBER(u32, skb, offsets.skb_tail) - (u64)start;
	if (length > 1 << 17)
		return 0;
	// The verifier does not see this bound, and takes the mask below for one: 127 bytes would still be within `work`.
	if (length > FRAME_BYTES)
		length = FRAME_BYTES;
	event = &own->events[own->turn & 1];
	last = &own->events[~own->turn & 1];
	__builtin_memset(event->frame, 0, FRAME_BYTES);
	if (bpf_probe_read_kernel(event->frame, length & 127, start) || !may_be_ours(event->frame))
		return 0;
	event->at = bpf_ktime_get_ns();
	event->location = location;
	event->reason = arguments[2];
	event->length = length;
	event->vlan_protocol = MEMBER(u16, skb, offsets.skb_vlan_proto);
	event->vlan_tci = MEMBER(u16, skb, offsets.skb_vlan_tci);
	name = (u64 *)event->device;
	name[0] = MEMBER(u64, device, offsets.device_name);
	name[1] = MEMBER(u64, device, offsets.device_name + 8);
	if (is_copy(event, last, device))
		return 0;
	if (location != last->location && !bpf_map_lookup_elem(&functions, &location)) {
		bpf_snprintf(own->function.name, FUNCTION_BYTES, function_name, &location, sizeof(location));
		bpf_map_update_elem(&functions, &location, &own->function, 0);
	}
	own->turn++;
	tell(event);
	return 0;
}

// The kernel lets only such programs read its structures.
const char licence[] SEC("license") = "Dual MIT/GPL";
