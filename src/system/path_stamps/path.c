// SPDX-License-Identifier: MIT OR Apache-2.0 OR GPL-2.0-only
//
// Stamps echo messages of a lab on their way from TAP to TAP: when each entered the kernel's network stack, left the
// bridge, left the queueing discipline, and was put into the queue of a TAP.
//
// The object beside this file is what the program loads, so that building the program takes no clang. After a change,
// scripts/build-bpf.sh builds the object anew; commit both. scripts/test.sh holds that the object is what the source
// gives, byte for byte.
//
// It includes no header of the system, so that it builds wherever clang does. The numbers are those of linux/bpf.h and
// if_ether.h. Where the members of the kernel's structures are, the loader says.

#include "../bpf.h"

// Behind two bytes the numbers of a frame are aligned, as the kernel wants those on the stack.
enum { PAD_BYTES = 2, FRAME_BYTES = 62, SLOT_BITS = 10 };
// Stamps of a frame, in their order.
enum { ENTERED = 0, BRIDGED = 1, DEQUEUED = 2, QUEUED = 3, STAMPS = 4 };
enum { IPV4 = 0x0008, IPV6 = 0xdd86, VLAN = 0x0081, SERVICE_VLAN = 0xa888, TAG_BYTES = 4 };
enum { ETHERNET = 14, IPV4_BYTES = 20, IPV6_BYTES = 40, ICMP = 1, ICMPV6 = 58 };

static u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;

// Where a member is in its structure, in bytes.
struct offsets {
	u32 skb_dev;
	u32 skb_head;
	u32 skb_mac_header;
	u32 device_net;
	u32 net_inum;
};

const volatile struct offsets offsets;
// The inode of the lab's network namespace.
const volatile u32 network_namespace;

// The way of one frame.
struct passage {
	// Whose it is: the end of the address that asks, identifier and sequence number, as they are in the frame.
	u64 key;
	u64 at[STAMPS];
	// Programs that it has passed: more than there are stamps if other devices are on its way.
	u64 passed;
};

// The ways of a request and of its reply. A ping whose key falls on the slot of another takes it over.
struct slot {
	struct passage ways[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct slot);
	__uint(max_entries, 1 << SLOT_BITS);
} slots SEC(".maps");

INLINE int stamp(const void *skb, u32 which)
{
	u32 index, asker;
	u8 buffer[PAD_BYTES + FRAME_BYTES] __attribute__((aligned(8)));
	u8 *frame = buffer + PAD_BYTES;
	const u8 *start, *message, *device, *net;
	int is_reply;
	u64 key;
	u16 type;
	struct slot *slot;
	struct passage *way;

	device = MEMBER(const u8 *, skb, offsets.skb_dev);
	net = MEMBER(const u8 *, device, offsets.device_net);
	if (MEMBER(u32, net, offsets.net_inum) != network_namespace)
		return 0;
	start = MEMBER(const u8 *, skb, offsets.skb_head) + MEMBER(u16, skb, offsets.skb_mac_header);
	if (bpf_probe_read_kernel(frame, FRAME_BYTES, start))
		return 0;
	type = *(u16 *)(frame + 12);
	if (type == VLAN || type == SERVICE_VLAN) {
		if (bpf_probe_read_kernel(frame, FRAME_BYTES, start + TAG_BYTES))
			return 0;
		type = *(u16 *)(frame + 12);
	}
	// Without options and extension headers, and of a message in fragments none.
	if (type == IPV4) {
		message = frame + ETHERNET + IPV4_BYTES;
		if (frame[14] != 0x45 || frame[23] != ICMP || *(u16 *)(frame + 20) & 0xff3f ||
		    (message[0] != 8 && message[0] != 0))
			return 0;
		is_reply = message[0] == 0;
		asker = is_reply ? *(u32 *)(frame + 30) : *(u32 *)(frame + 26);
	} else if (type == IPV6) {
		message = frame + ETHERNET + IPV6_BYTES;
		if (frame[20] != ICMPV6 || (message[0] != 128 && message[0] != 129))
			return 0;
		is_reply = message[0] == 129;
		asker = is_reply ? *(u32 *)(frame + 50) : *(u32 *)(frame + 34);
	} else {
		return 0;
	}
	key = (u64)asker << 32 | *(u32 *)(message + 4);
	index = key * 0x9e3779b97f4a7c15 >> (64 - SLOT_BITS);
	slot = bpf_map_lookup_elem(&slots, &index);
	if (!slot)
		return 0;
	way = is_reply ? &slot->ways[1] : &slot->ways[0];
	if (which == ENTERED) {
		// Bridges and veth pairs on the way have it enter again.
		if (way->key == key) {
			way->passed++;
			return 0;
		}
		way->at[BRIDGED] = 0;
		way->at[DEQUEUED] = 0;
		way->at[QUEUED] = 0;
		way->passed = 0;
		way->key = key;
	} else if (way->key != key) {
		return 0;
	}
	way->passed++;
	way->at[which] = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/netif_receive_skb_entry")
int entered(u64 *arguments)
{
	return stamp((const void *)arguments[0], ENTERED);
}

SEC("tp_btf/net_dev_queue")
int bridged(u64 *arguments)
{
	return stamp((const void *)arguments[0], BRIDGED);
}

SEC("tp_btf/net_dev_start_xmit")
int dequeued(u64 *arguments)
{
	return stamp((const void *)arguments[0], DEQUEUED);
}

SEC("tp_btf/net_dev_xmit")
int queued(u64 *arguments)
{
	return stamp((const void *)arguments[0], QUEUED);
}

// The kernel lets only such programs read its structures.
const char licence[] SEC("license") = "Dual MIT/GPL";
