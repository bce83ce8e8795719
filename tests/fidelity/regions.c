/* Cases about a device's regions: what they are, reads, writes, mappings. Answers: regions.toml. */
#define _GNU_SOURCE
#include "probe.h"

#include <linux/pci_regs.h>

#define AT(region, offset) (((off_t)(region) << 40) + (off_t)(offset))
#define CONFIG(offset) AT(VFIO_PCI_CONFIG_REGION_INDEX, offset)

/* Nothing that the compiler knows of. */
static void *volatile nowhere;
static volatile size_t huge = SIZE_MAX;

/* Bytes that are read, and the first of them. */
static void get(const char *name, int device, off_t where, size_t count)
{
	static unsigned char buffer[PAGE * 4];
	ssize_t got;

	memset(buffer, 0x55, sizeof(buffer));
	errno = 0;
	got = pread(device, buffer, count, where);
	answer(name, got, "");
}

/* The same, with the value of the first four. */
static void get_value(const char *name, int device, off_t where, size_t count)
{
	unsigned char buffer[64] = { 0 };
	uint32_t value;
	ssize_t got;

	errno = 0;
	got = pread(device, buffer, count, where);
	memcpy(&value, buffer, sizeof(value));
	answer(name, got, "value=%#x", value);
}

static void put(const char *name, int device, off_t where, size_t count)
{
	static const unsigned char buffer[PAGE * 4] = { 0xc0, 0xff, 0xee, 0 };
	ssize_t got;

	errno = 0;
	got = pwrite(device, buffer, count, where);
	answer(name, got, "");
}

/* A mapping, which is taken away again. */
static void map(const char *name, int device, off_t where, size_t length, int flags)
{
	void *there;

	errno = 0;
	there = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, device, where);
	answer(name, there == MAP_FAILED ? -1 : 0, "");
	if (there != MAP_FAILED)
		munmap(there, length);
}

static void set_memory(int device, uint16_t command)
{
	need(pwrite(device, &command, sizeof(command), CONFIG(PCI_COMMAND)) == sizeof(command),
	     "write the command register");
}

/* A BAR's size, 0 for one that there isn't. */
static uint64_t size_of(int device, uint32_t index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	need(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0, "ask for a region");
	return info.size;
}

/* The MSI-X table: its BAR, and where in it. */
static uint32_t msix_table(int device, uint32_t *bar)
{
	uint8_t at = 0, id = 0;
	uint32_t place = 0;

	need(pread(device, &at, 1, CONFIG(PCI_CAPABILITY_LIST)) == 1, "read configuration space");
	while (at) {
		need(pread(device, &id, 1, CONFIG(at)) == 1, "read a capability");
		if (id == PCI_CAP_ID_MSIX)
			break;
		need(pread(device, &at, 1, CONFIG(at + 1)) == 1, "read a capability");
	}
	errno = ENODEV;
	need(at != 0, "MSI-X");
	need(pread(device, &place, 4, CONFIG(at + PCI_MSIX_TABLE)) == 4, "read MSI-X");
	*bar = place & PCI_MSIX_TABLE_BIR;
	return place & PCI_MSIX_TABLE_OFFSET;
}

/* A device that nobody has bound: nothing of it can be reached. */
static void regions_unbound(struct descriptors *d)
{
	int device = d->devices[0];

	get("read-config", device, CONFIG(0), 4);
	get("read-bar", device, AT(0, 0), 4);
	get("read-nothing", device, CONFIG(0), 0);
	get("read-beyond", device, AT(20, 0), 4);
	put("write-config", device, CONFIG(PCI_COMMAND), 2);
	put("write-bar", device, AT(0, 0), 4);
	map("map-bar", device, AT(0, 0), PAGE, MAP_SHARED);
	map("map-config", device, CONFIG(0), PAGE, MAP_SHARED);
	bind_device(d, 0);
	get("read-config-once-bound", device, CONFIG(0), 4);
	map("map-bar-once-bound", device, AT(0, 0), PAGE, MAP_SHARED);
}

/* Configuration space: 4 KiB, of a PCI Express device. */
static void regions_config(struct descriptors *d)
{
	int device = d->devices[0];
	char *sealed = memory(PAGE, PROT_READ);

	bind_device(d, 0);
	get("read-all", device, CONFIG(0), PAGE);
	get("read-last", device, CONFIG(PAGE - 1), 1);
	get("read-at-end", device, CONFIG(PAGE), 1);
	get("read-over-end", device, CONFIG(PAGE - 4), 8);
	get("read-far-beyond", device, CONFIG(1 << 20), 4);
	get("read-more-than-all", device, CONFIG(0), PAGE + 1);
	get("read-nothing", device, CONFIG(0), 0);
	get("read-nothing-beyond", device, CONFIG(PAGE), 0);
	put("write-last", device, CONFIG(PAGE - 1), 1);
	put("write-at-end", device, CONFIG(PAGE), 1);
	put("write-over-end", device, CONFIG(PAGE - 4), 8);
	put("write-more-than-all", device, CONFIG(0), PAGE + 1);
	put("write-nothing", device, CONFIG(0), 0);
	put("write-nothing-beyond", device, CONFIG(PAGE), 0);
	errno = 0;
	answer("read-to-nowhere", pread(device, nowhere, 4, CONFIG(0)), "");
	errno = 0;
	answer("read-to-what-is-read-only", pread(device, sealed, 4, CONFIG(0)), "");
	errno = 0;
	answer("write-from-nowhere", pwrite(device, nowhere, 4, CONFIG(4)), "");
	get("read-vga", device, AT(VFIO_PCI_VGA_REGION_INDEX, 0xa0000), 4);
	put("write-vga", device, AT(VFIO_PCI_VGA_REGION_INDEX, 0xa0000), 4);
	get("read-region-9", device, AT(9, 0), 4);
	put("write-region-9", device, AT(9, 0), 4);
	get("read-region-1000", device, AT(1000, 0), 4);
	get("read-nothing-of-region-9", device, AT(9, 0), 0);
	get("read-at-most-offset", device, INT64_MAX, 4);
	get("read-at-minus-1", device, -1, 4);
	put("write-at-most-offset", device, INT64_MAX, 4);
	put("write-at-minus-1", device, -1, 4);
	errno = 0;
	answer("read-2-gib", pread(device, sealed, 2UL << 30, CONFIG(0)), "");
	errno = 0;
	answer("read-huge", pread(device, sealed, huge, CONFIG(0)), "");
	errno = 0;
	answer("read-half-of-all", pread(device, sealed, huge / 2, CONFIG(0)), "");
	errno = 0;
	answer("write-2-gib", pwrite(device, sealed, 2UL << 30, CONFIG(0)), "");
	errno = 0;
	answer("write-huge", pwrite(device, sealed, huge, CONFIG(0)), "");
	errno = 0;
	answer("write-half-of-all", pwrite(device, sealed, huge / 2, CONFIG(0)), "");
	errno = 0;
	answer("truncate", ftruncate(device, 0), "");
	errno = 0;
	answer("seek", lseek(device, CONFIG(0), SEEK_SET), "");
	errno = 0;
	answer("allocate", fallocate(device, 0, CONFIG(0), 4096), "");
	errno = 0;
	answer("punch", fallocate(device, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, CONFIG(0), 4096),
	       "");
}

/* BARs: the first is there, with the MSI-X table in it; the second isn't. */
static void regions_bars(struct descriptors *d)
{
	int device = d->devices[0];
	uint32_t bar, table;
	uint64_t size;
	char *wide;

	bind_device(d, 0);
	table = msix_table(device, &bar);
	size = size_of(device, bar);
	set_memory(device, 0);
	get("read-with-memory-off", device, AT(bar, 0), 4);
	put("write-with-memory-off", device, AT(bar, 0), 4);
	get("read-at-end-with-memory-off", device, AT(bar, size), 4);
	get("read-nothing-with-memory-off", device, AT(bar, 0), 0);
	get_value("read-table-with-memory-off", device, AT(bar, table), 4);
	map("map-with-memory-off", device, AT(bar, 0), PAGE, MAP_SHARED);
	set_memory(device, PCI_COMMAND_MEMORY);
	put("write", device, AT(bar, 0x100), 4);
	get_value("read", device, AT(bar, 0x100), 4);
	put("write-last", device, AT(bar, size - 4), 4);
	get_value("read-last", device, AT(bar, size - 4), 4);
	get("read-at-end", device, AT(bar, size), 4);
	put("write-at-end", device, AT(bar, size), 4);
	get("read-far-beyond", device, AT(bar, 1UL << 39), 4);
	put("write-far-beyond", device, AT(bar, 1UL << 39), 4);
	answer("read-over-end", pread(device, memory(PAGE, PROT_READ | PROT_WRITE), 64,
				      AT(bar, size - 16)), "");
	put("write-over-end", device, AT(bar, size - 16), 64);
	get_value("read-what-was-written-over-the-end", device, AT(bar, size - 16), 4);
	wide = memory(4 * size, PROT_READ | PROT_WRITE);
	errno = 0;
	answer("read-more-than-all", pread(device, wide, 4 * size, AT(bar, 0)) == (ssize_t)size, "");
	errno = 0;
	answer("write-more-than-all", pwrite(device, wide, 4 * size, AT(bar, 0)) == (ssize_t)size, "");
	get_value("read-table", device, AT(bar, table), 4);
	put("write-table", device, AT(bar, table), 4);
	get_value("read-table-again", device, AT(bar, table), 4);
	put("write-into-table", device, AT(bar, table - 4), 8);
	get_value("read-before-table", device, AT(bar, table - 4), 4);
	get_value("read-table-after-that", device, AT(bar, table), 4);
	errno = 0;
	answer("read-to-nowhere", pread(device, nowhere, 4, AT(bar, 0)), "");
	errno = 0;
	answer("write-from-nowhere", pwrite(device, nowhere, 4, AT(bar, 0)), "");
	get("read-absent-bar", device, AT(1, 0), 4);
	put("write-absent-bar", device, AT(1, 0), 4);
	get("read-nothing-of-absent-bar", device, AT(1, 0), 0);
	get("read-rom", device, AT(VFIO_PCI_ROM_REGION_INDEX, 0), 4);
	put("write-rom", device, AT(VFIO_PCI_ROM_REGION_INDEX, 0), 4);
	put("write-nothing-of-rom", device, AT(VFIO_PCI_ROM_REGION_INDEX, 0), 0);
	need(ioctl(device, VFIO_DEVICE_RESET, NULL) == 0, "reset");
	get_value("read-table-after-reset", device, AT(bar, table), 4);
}

/* What can be mapped. */
static void regions_map(struct descriptors *d)
{
	int device = d->devices[0];
	uint32_t bar;
	uint64_t size;

	bind_device(d, 0);
	msix_table(device, &bar);
	size = size_of(device, bar);
	map("page", device, AT(bar, 0), PAGE, MAP_SHARED);
	map("last-page", device, AT(bar, size - PAGE), PAGE, MAP_SHARED);
	map("whole", device, AT(bar, 0), size, MAP_SHARED);
	map("part-of-a-page", device, AT(bar, 0), 10, MAP_SHARED);
	map("private", device, AT(bar, 0), PAGE, MAP_PRIVATE);
	map("validated", device, AT(bar, 0), PAGE, MAP_SHARED_VALIDATE);
	map("at-end", device, AT(bar, size), PAGE, MAP_SHARED);
	map("over-end", device, AT(bar, size - PAGE), 2 * PAGE, MAP_SHARED);
	map("over-end-by-a-byte", device, AT(bar, 0), size + 1, MAP_SHARED);
	map("far-beyond", device, AT(bar, 1UL << 39), PAGE, MAP_SHARED);
	map("unaligned", device, AT(bar, 1), PAGE, MAP_SHARED);
	map("nothing", device, AT(bar, 0), 0, MAP_SHARED);
	map("huge", device, AT(bar, 0), 1UL << 62, MAP_SHARED);
	map("into-the-next-region", device, AT(bar, 0), 1UL << 40, MAP_SHARED);
	map("absent-bar", device, AT(1, 0), PAGE, MAP_SHARED);
	map("rom", device, AT(VFIO_PCI_ROM_REGION_INDEX, 0), PAGE, MAP_SHARED);
	map("config", device, CONFIG(0), PAGE, MAP_SHARED);
	map("vga", device, AT(VFIO_PCI_VGA_REGION_INDEX, 0), PAGE, MAP_SHARED);
	map("region-9", device, AT(9, 0), PAGE, MAP_SHARED);
	map("region-1000", device, AT(1000, 0), PAGE, MAP_SHARED);
}

/* A device whose BAR can't be mapped. */
static void regions_no_mmap(struct descriptors *d)
{
	int device = d->devices[0];
	struct vfio_region_info info = { .argsz = sizeof(info) };

	bind_device(d, 0);
	ASK("info", device, VFIO_DEVICE_GET_REGION_INFO, &info, "flags=%#x", info.flags);
	map("map", device, AT(0, 0), PAGE, MAP_SHARED);
	set_memory(device, PCI_COMMAND_MEMORY);
	put("write", device, AT(0, 0x10), 4);
	get_value("read", device, AT(0, 0x10), 4);
}

static void info_of(const char *name, int device, uint32_t index, uint32_t argsz)
{
	struct {
		struct vfio_region_info info;
		struct vfio_region_info_cap_type room;
	} region = { .info = { .argsz = argsz, .flags = 0xff, .index = index, .cap_offset = 99,
			       .offset = 7 } };

	ASK(name, device, VFIO_DEVICE_GET_REGION_INFO, &region,
	    "argsz=%u flags=%#x cap_offset=%u offset=%#llx cap=%u", region.info.argsz,
	    region.info.flags, region.info.cap_offset, region.info.offset, region.room.header.id);
}

/* What is said of the device and of its regions. */
static void regions_info(struct descriptors *d)
{
	int device = d->devices[0];
	struct vfio_device_info info = { .argsz = sizeof(info), .flags = ~0u, .num_regions = 77,
					 .cap_offset = 99, .pad = 98 };
	struct vfio_pci_hot_reset_info hot = { .argsz = sizeof(hot) };
	struct vfio_pci_hot_reset reset = { .argsz = sizeof(reset) };
	char *sealed = memory(PAGE, PROT_READ | PROT_WRITE);

	bind_device(d, 0);
	ASK("device", device, VFIO_DEVICE_GET_INFO, &info, "argsz=%u flags=%#x cap_offset=%u pad=%u",
	    info.argsz, info.flags, info.cap_offset, info.pad);
	info.cap_offset = info.pad = 99;
	info.argsz = 20;
	ASK("device-without-pad", device, VFIO_DEVICE_GET_INFO, &info, "cap_offset=%u pad=%u",
	    info.cap_offset, info.pad);
	info.cap_offset = info.pad = 99;
	info.argsz = 16;
	ASK("device-without-cap-offset", device, VFIO_DEVICE_GET_INFO, &info, "cap_offset=%u pad=%u",
	    info.cap_offset, info.pad);
	info.argsz = 15;
	ASK("device-too-short", device, VFIO_DEVICE_GET_INFO, &info);
	info.argsz = 0;
	ASK("device-of-size-0", device, VFIO_DEVICE_GET_INFO, &info);
	info.argsz = 1 << 20;
	ASK("device-of-a-mebibyte", device, VFIO_DEVICE_GET_INFO, &info, "argsz=%u", info.argsz);
	ASK("device-at-nothing", device, VFIO_DEVICE_GET_INFO, NULL);
	((struct vfio_device_info *)sealed)->argsz = sizeof(info);
	need(mprotect(sealed, PAGE, PROT_READ) == 0, "mprotect");
	ASK("device-into-what-is-read-only", device, VFIO_DEVICE_GET_INFO, sealed);
	need(mprotect(sealed, PAGE, PROT_NONE) == 0, "mprotect");
	ASK("device-at-what-is-protected", device, VFIO_DEVICE_GET_INFO, sealed);

	info_of("bar", device, 0, 32);
	info_of("bar-with-room-for-a-capability", device, 0, 40);
	info_of("bar-with-too-little-room", device, 0, 39);
	info_of("absent-bar", device, 1, 32);
	info_of("rom", device, VFIO_PCI_ROM_REGION_INDEX, 48);
	info_of("config", device, VFIO_PCI_CONFIG_REGION_INDEX, 48);
	info_of("vga", device, VFIO_PCI_VGA_REGION_INDEX, 32);
	info_of("region-9", device, 9, 32);
	info_of("region-far-beyond", device, ~0u, 32);
	info_of("too-short", device, 0, 31);
	info_of("of-size-0", device, 0, 0);
	ASK("at-nothing", device, VFIO_DEVICE_GET_REGION_INFO, NULL);

	ASK("hot-reset-info", device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &hot);
	hot.argsz = 11;
	ASK("hot-reset-info-too-short", device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &hot);
	ASK("hot-reset", device, VFIO_DEVICE_PCI_HOT_RESET, &reset);
	reset.flags = 1;
	ASK("hot-reset-with-flags", device, VFIO_DEVICE_PCI_HOT_RESET, &reset);
	reset.flags = 0;
	reset.count = 1;
	ASK("hot-reset-of-groups", device, VFIO_DEVICE_PCI_HOT_RESET, &reset);
	reset.argsz = 11;
	ASK("hot-reset-too-short", device, VFIO_DEVICE_PCI_HOT_RESET, &reset);
	ASK("reset", device, VFIO_DEVICE_RESET, NULL);
	ASK("reset-with-an-argument", device, VFIO_DEVICE_RESET, sealed);
	ASK("precopy-info-of-a-device", device, VFIO_MIG_GET_PRECOPY_INFO, NULL);
	ASK("graphics-plane", device, VFIO_DEVICE_QUERY_GFX_PLANE, NULL);
}

const struct group region_groups[] = {
	{ "regions-unbound", regions_unbound },
	{ "regions-config", regions_config },
	{ "regions-bars", regions_bars },
	{ "regions-map", regions_map },
	{ "regions-no-mmap", regions_no_mmap },
	{ "regions-info", regions_info },
	{ 0 },
};
