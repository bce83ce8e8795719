/* Cases about an iommufd: its requests' arguments, address spaces, what is mapped, page tables.
 * Answers: iommufd.toml.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <sys/eventfd.h>
#include <sys/wait.h>

#define NONE 99u /* No object has this id. */
#define RW (IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE)
#define READ_ONLY (IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE)
#define END UINT64_MAX

/* A request as a case, with a structure whose fields are given. */
#define TRY(name, request, type, ...)                                                              \
	do {                                                                                       \
		struct type asked = { .size = sizeof(asked), __VA_ARGS__ };                        \
		ASK(name, d->iommufd, request, &asked);                                            \
	} while (0)

#define MAP(name, ...)                                                                             \
	TRY(name, IOMMU_IOAS_MAP, iommu_ioas_map, .flags = RW, .length = PAGE,                     \
	    .ioas_id = ioas, __VA_ARGS__)
#define MAP_FD(name, ...)                                                                        \
	TRY(name, IOMMU_IOAS_MAP_FILE, iommu_ioas_map_file, .flags = RW, .length = PAGE,           \
	    .ioas_id = ioas, __VA_ARGS__)
#define UNMAP(name, from, count)                                                                   \
	do {                                                                                       \
		struct iommu_ioas_unmap asked = { .size = sizeof(asked), .ioas_id = ioas,          \
						  .iova = from, .length = count };                 \
		ASK(name, d->iommufd, IOMMU_IOAS_UNMAP, &asked, "length=%#llx", asked.length);     \
	} while (0)
#define DESTROY(name, which) TRY(name, IOMMU_DESTROY, iommu_destroy, .id = which)
#define ATTACH(name, ...)                                                                          \
	do {                                                                                       \
		struct vfio_device_attach_iommufd_pt asked = { .argsz = sizeof(asked),             \
							       __VA_ARGS__ };                      \
		ASK(name, d->devices[0], VFIO_DEVICE_ATTACH_IOMMUFD_PT, &asked);                   \
	} while (0)

/* A page table of the address space for a device, or end. */
static uint32_t new_table(struct descriptors *d, uint32_t device, uint32_t ioas, uint32_t flags)
{
	struct iommu_hwpt_alloc alloc = { .size = sizeof(alloc), .dev_id = device,
					  .pt_id = ioas, .flags = flags };

	need(ioctl(d->iommufd, IOMMU_HWPT_ALLOC, &alloc) == 0, "allocate a page table");
	return alloc.out_hwpt_id;
}

/* A memfd of that length, or end. */
static int memory_file(size_t length)
{
	int file = memfd_create("probe", MFD_CLOEXEC);

	need(file >= 0 && ftruncate(file, length) == 0, "memfd_create");
	return file;
}

/* A file of the working directory, which is to be on a disk; nothing of it stays. */
static int disk_file(size_t length)
{
	int file = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	need(file >= 0 && ftruncate(file, length) == 0, "make a file in the working directory");
	return file;
}

static uint64_t map_file(int file, size_t length, int protection, int flags)
{
	void *there = mmap(NULL, length, protection, flags, file, 0);

	need(there != MAP_FAILED, "map a file");
	return (uintptr_t)there;
}

/* --- arguments ------------------------------------------------------------------------------- */

struct request {
	const char *name;
	unsigned long number;
	unsigned int smallest, size;
};

#define REQUEST(name, number, type, last)                                                          \
	{ name, number, offsetof(struct type, last) + sizeof(((struct type *)0)->last),            \
	  sizeof(struct type) }

static const struct request requests[] = {
	REQUEST("destroy", IOMMU_DESTROY, iommu_destroy, id),
	REQUEST("ioas-alloc", IOMMU_IOAS_ALLOC, iommu_ioas_alloc, out_ioas_id),
	REQUEST("allow", IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, allowed_iovas),
	REQUEST("copy", IOMMU_IOAS_COPY, iommu_ioas_copy, src_iova),
	REQUEST("ranges", IOMMU_IOAS_IOVA_RANGES, iommu_ioas_iova_ranges, out_iova_alignment),
	REQUEST("map", IOMMU_IOAS_MAP, iommu_ioas_map, iova),
	REQUEST("unmap", IOMMU_IOAS_UNMAP, iommu_ioas_unmap, length),
	REQUEST("option", IOMMU_OPTION, iommu_option, val64),
	REQUEST("vfio-ioas", IOMMU_VFIO_IOAS, iommu_vfio_ioas, __reserved),
	REQUEST("hwpt-alloc", IOMMU_HWPT_ALLOC, iommu_hwpt_alloc, __reserved),
	REQUEST("hw-info", IOMMU_GET_HW_INFO, iommu_hw_info, __reserved),
	REQUEST("tracking", IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking,
		__reserved),
	REQUEST("bitmap", IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap, data),
	REQUEST("invalidate", IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate, __reserved),
	REQUEST("map-file", IOMMU_IOAS_MAP_FILE, iommu_ioas_map_file, iova),
	REQUEST("viommu", IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, out_viommu_id),
	REQUEST("change-process", IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process,
		__reserved),
};

/* What is checked before the request is looked at. All bytes of `room` are writable; after them
 * comes nothing.
 */
static void arguments(struct descriptors *d)
{
	uint8_t *room = memory(4 * PAGE, PROT_READ | PROT_WRITE);
	char name[64];

	need(munmap(room + 3 * PAGE, PAGE) == 0, "munmap");
	for (size_t at = 0; at < sizeof(requests) / sizeof(*requests); at++) {
		const struct request *r = &requests[at];
		uint32_t *size = (uint32_t *)room;

#define CASE(what, argument)                                                                       \
	snprintf(name, sizeof(name), "%s-%s", r->name, what);                                      \
	ASK(name, d->iommufd, r->number, argument)
		memset(room, 0, 3 * PAGE);
		*size = r->smallest - 1;
		CASE("short", room);
		*size = r->size + 1;
		room[r->size] = 1;
		CASE("newer", room);
		room[r->size] = 0;
		*size = 2 * PAGE;
		room[2 * PAGE - 1] = 1;
		CASE("newer-by-pages", room);
		room[2 * PAGE - 1] = 0;
		*size = 4 * PAGE;
		CASE("newer-than-memory", room);
		*(uint32_t *)(room + 3 * PAGE - 4) = r->size;
		CASE("cut-off", room + 3 * PAGE - 4);
#undef CASE
	}
	ASK("nowhere", d->iommufd, IOMMU_IOAS_ALLOC, NULL);
	memset(room, 0, 3 * PAGE);
	*(uint32_t *)room = 3 * PAGE;
	ASK("newer-but-zero", d->iommufd, IOMMU_IOAS_ALLOC, room, "id=%u", ((uint32_t *)room)[2]);
	*(uint32_t *)room = 0;
	ASK("no-size", d->iommufd, IOMMU_IOAS_ALLOC, room);
	*(uint32_t *)room = sizeof(struct iommu_ioas_alloc);
	ASK("with-a-direction", d->iommufd, _IOWR(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOC, int), room);
	ASK("with-a-direction-nowhere", d->iommufd,
	    _IOWR(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_ALLOC, int), NULL);
	ASK("number-0xa0", d->iommufd, _IO(IOMMUFD_TYPE, 0xa0), room);
	ASK("number-0x7f", d->iommufd, _IO(IOMMUFD_TYPE, 0x7f), room);
	need(mprotect(room, PAGE, PROT_READ) == 0, "mprotect");
	ASK("read-only", d->iommufd, IOMMU_IOAS_ALLOC, room);
	DESTROY("read-only-made-nothing", 2);
	need(mprotect(room, PAGE, PROT_NONE) == 0, "mprotect");
	ASK("inaccessible", d->iommufd, IOMMU_IOAS_ALLOC, room);
}

#define CALL(name, call)                                                                           \
	do {                                                                                       \
		errno = 0;                                                                         \
		long outcome = (long)(call);                                                       \
		answer(name, outcome, "");                                                         \
	} while (0)

/* An iommufd is the open file, whatever its number; there is nothing in it to read. */
static void descriptor(struct descriptors *d)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int second = dup(d->iommufd), null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char byte = 0;

	need(second >= 0 && null >= 0, "dup, open");
	ASK("a-duplicate", second, IOMMU_IOAS_ALLOC, &alloc, "id=%u", alloc.out_ioas_id);
	ASK("what-it-made", d->iommufd, IOMMU_IOAS_ALLOC, &alloc, "id=%u", alloc.out_ioas_id);
	bind.iommufd = second;
	ASK("bind-to-a-duplicate", d->devices[0], VFIO_DEVICE_BIND_IOMMUFD, &bind, "id=%u",
	    bind.out_devid);
	ASK("of-a-device", d->devices[0], IOMMU_IOAS_ALLOC, &alloc);
	ASK("a-devices", second, VFIO_DEVICE_GET_INFO, &info);
	CALL("read", read(second, &byte, 1));
	CALL("write", write(second, &byte, 1));
	CALL("pread", pread(second, &byte, 1, 0));
	CALL("pwrite", pwrite(second, &byte, 1, 0));
	CALL("lseek", lseek(second, 0, SEEK_SET));
	CALL("mmap", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, second, 0));
	CALL("mmap-private", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, second, 0));
	need(dup2(null, second) == second, "dup2");
	ASK("its-number-once-more", second, IOMMU_IOAS_ALLOC, &alloc);
	close(second);
	ASK("closed", second, IOMMU_IOAS_ALLOC, &alloc);
}

/* VFIO's container requests, which an iommufd takes as well. */
static void container(struct descriptors *d)
{
	struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map) };

	ASK("version", d->iommufd, VFIO_GET_API_VERSION, 0);
	ASK("type1", d->iommufd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU);
	ASK("set-iommu", d->iommufd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
	ASK("map", d->iommufd, VFIO_IOMMU_MAP_DMA, &map);
	ASK("dirty-pages", d->iommufd, VFIO_IOMMU_DIRTY_PAGES, &map);
}

/* --- address spaces -------------------------------------------------------------------------- */

static void ioas(struct descriptors *d)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_ioas_iova_ranges ranges = { .size = sizeof(ranges) };
	struct iommu_iova_range found[4] = { 0 };

	ASK("alloc", d->iommufd, IOMMU_IOAS_ALLOC, &alloc, "id=%u", alloc.out_ioas_id);
	TRY("alloc-with-flags", IOMMU_IOAS_ALLOC, iommu_ioas_alloc, .flags = 1);
	ranges.ioas_id = alloc.out_ioas_id;
	ranges.allowed_iovas = (uintptr_t)found;
	ASK("ranges-without-room", d->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges,
	    "count=%u alignment=%llu", ranges.num_iovas, ranges.out_iova_alignment);
	ranges.num_iovas = 4;
	ASK("ranges", d->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges, "count=%u first=%#llx-%#llx",
	    ranges.num_iovas, found[0].start, found[0].last);
	ranges.num_iovas = 4;
	ranges.allowed_iovas = 0;
	ASK("ranges-to-nowhere", d->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges, "count=%u",
	    ranges.num_iovas);
	TRY("ranges-reserved", IOMMU_IOAS_IOVA_RANGES, iommu_ioas_iova_ranges,
	    .ioas_id = alloc.out_ioas_id, .__reserved = 1);
	TRY("ranges-reserved-of-nothing", IOMMU_IOAS_IOVA_RANGES, iommu_ioas_iova_ranges,
	    .ioas_id = NONE, .__reserved = 1);
	TRY("ranges-of-nothing", IOMMU_IOAS_IOVA_RANGES, iommu_ioas_iova_ranges, .ioas_id = NONE);
	DESTROY("destroy", alloc.out_ioas_id);
	DESTROY("destroy-again", alloc.out_ioas_id);
	DESTROY("destroy-0", 0);
	DESTROY("destroy-the-last", UINT32_MAX);
	ASK("alloc-once-more", d->iommufd, IOMMU_IOAS_ALLOC, &alloc, "id=%u", alloc.out_ioas_id);
}

#define ALLOW(name, count, ...)                                                                    \
	do {                                                                                       \
		struct iommu_iova_range list[] = { __VA_ARGS__ };                                  \
		TRY(name, IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, .ioas_id = ioas,         \
		    .num_iovas = count, .allowed_iovas = (uintptr_t)list);                         \
	} while (0)

static void allow(struct descriptors *d)
{
	uint32_t ioas = new_ioas(d->iommufd);
	uint64_t va = (uintptr_t)memory(4 * PAGE, PROT_READ | PROT_WRITE);
	struct iommu_ioas_map map = { .size = sizeof(map), .ioas_id = ioas, .length = PAGE,
				      .flags = IOMMU_IOAS_MAP_READABLE, .user_va = va };

	ALLOW("nothing", 0, { 0 });
	ALLOW("a-range", 1, { 0x100000, 0x1fffff });
	ASK("map-there", d->iommufd, IOMMU_IOAS_MAP, &map, "iova=%#llx", map.iova);
	MAP("map-elsewhere-by-wish", .user_va = va, .iova = 0x800000);
	ALLOW("of-one-byte", 1, { 0x1000, 0x1000 });
	ALLOW("that-ends-before", 1, { 0x2000, 0x1000 });
	ALLOW("that-overlap", 2, { 0x1000, 0x2000 }, { 0x2000, 0x3000 });
	ALLOW("that-touch", 2, { 0x4000, 0x4fff }, { 0x3000, 0x3fff });
	map.length = 2 * PAGE;
	map.user_va = (va & ~0x1fffffULL) + PAGE;
	ASK("map-over-both", d->iommufd, IOMMU_IOAS_MAP, &map, "iova=%#llx", map.iova);
	TRY("from-nowhere", IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, .ioas_id = ioas,
	    .num_iovas = 1);
	TRY("reserved", IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, .ioas_id = ioas,
	    .__reserved = 1);
	TRY("of-nothing", IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, .ioas_id = NONE);
	map.length = 4 * PAGE;
	ASK("map-what-does-not-fit", d->iommufd, IOMMU_IOAS_MAP, &map);
	UNMAP("all", 0, END);
	ALLOW("beyond-any-page-table", 1, { 0x1000, END - 0x1000 });
	bind_device(d, 0);
	ATTACH("attach-where-more-is-allowed", .pt_id = ioas);
	ALLOW("anything-again", 0, { 0 });
	attach(d->devices[0], ioas);
	ALLOW("what-hardware-reserves", 1, { 0xfee00000, 0xfee0ffff });
}

/* --- mapping --------------------------------------------------------------------------------- */

/* Where there is no page table: nothing is pinned, and any byte can be the first. */
static void map(struct descriptors *d)
{
	uint64_t va = (uintptr_t)memory(4 * PAGE, PROT_READ | PROT_WRITE);
	uint32_t ioas = new_ioas(d->iommufd);
	struct iommu_ioas_map any = { .size = sizeof(any), .ioas_id = ioas, .length = PAGE,
				      .user_va = va + 8, .flags = IOMMU_IOAS_MAP_READABLE };

	MAP("memory", .user_va = va, .iova = PAGE);
	MAP("it-once-more", .user_va = va, .iova = PAGE);
	MAP("over-its-end", .user_va = va, .iova = PAGE + 8);
	MAP("over-its-start", .user_va = va, .iova = 8);
	MAP("around-it", .user_va = va, .iova = 0, .length = 4 * PAGE);
	MAP("beside-it", .user_va = va, .iova = 0);
	MAP("one-byte", .user_va = va + 3, .iova = 0x100001, .length = 1);
	MAP("memory-that-is-none", .user_va = 0x1000, .iova = 0x200000);
	MAP("to-read", .user_va = va, .iova = 0x300000, .flags = READ_ONLY);
	MAP("neither-to-read-nor-write", .user_va = va, .iova = 0x400000,
	    .flags = IOMMU_IOAS_MAP_FIXED_IOVA);
	MAP("with-an-unknown-flag", .user_va = va, .iova = 0x400000, .flags = RW | 8);
	MAP("reserved", .user_va = va, .iova = 0x400000, .__reserved = 1);
	MAP("nothing", .user_va = va, .iova = 0x400000, .length = 0);
	MAP("for-nobody", .user_va = va, .iova = 0x400000, .ioas_id = NONE);
	MAP("nothing-for-nobody", .user_va = va, .length = 0, .ioas_id = NONE);
	MAP("unknown-flag-for-nobody", .user_va = va, .flags = 8, .ioas_id = NONE);
	MAP("at-the-last-byte", .user_va = va, .iova = END, .length = 1);
	MAP("past-the-last-byte", .user_va = va, .iova = END - 8, .length = 0x1000);
	MAP("all-there-is", .user_va = 0, .iova = 0, .length = END);
	MAP("too-long", .user_va = 0, .iova = 0x400000, .length = END - 8);
	MAP("memory-that-wraps", .user_va = END - 8, .iova = 0x400000);
	MAP("memory-that-ends-at-the-end", .user_va = END - PAGE, .iova = 0x400000);
	any.iova = 77;
	ASK("anywhere", d->iommufd, IOMMU_IOAS_MAP, &any, "iova=%#llx", any.iova);
	any.user_va = va & ~0x1fffffULL;
	any.length = 0x200000;
	ASK("a-huge-page-anywhere", d->iommufd, IOMMU_IOAS_MAP, &any, "iova=%#llx", any.iova);
	any.length = END / 2;
	any.user_va = 0;
	ASK("half-of-all-anywhere", d->iommufd, IOMMU_IOAS_MAP, &any);
	any.length = 0;
	ASK("nothing-anywhere", d->iommufd, IOMMU_IOAS_MAP, &any);
}

/* With a page table, memory is pinned: it has to be there, and may be written if it is to be. */
static void pin(struct descriptors *d)
{
	uint32_t device = bind_device(d, 0), ioas = new_ioas(d->iommufd);
	uint8_t *va = memory(8 * PAGE, PROT_READ | PROT_WRITE);
	uint8_t *bar = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, d->devices[0], 0);
	uint64_t at = (uintptr_t)va, private, shared, file = 0;
	int memfd = memory_file(PAGE), disk = disk_file(PAGE);

	need(bar != MAP_FAILED, "map the first BAR");
	new_table(d, device, ioas, 0);
	need(munmap(va + 7 * PAGE, PAGE) == 0, "munmap");
	need(mprotect(va + PAGE, PAGE, PROT_READ) == 0, "mprotect");
	need(mprotect(va + 2 * PAGE, PAGE, PROT_NONE) == 0, "mprotect");
	need(mprotect(va + 3 * PAGE, PAGE, PROT_WRITE) == 0, "mprotect");
	MAP("memory", .user_va = at, .iova = file += PAGE);
	MAP("memory-that-is-none", .user_va = at + 7 * PAGE, .iova = file += PAGE);
	MAP("memory-that-ends", .user_va = at + 6 * PAGE, .length = 2 * PAGE, .iova = file += PAGE);
	MAP("page-0", .user_va = 0, .iova = file += PAGE);
	MAP("the-kernels", .user_va = 0xffff888000000000, .iova = file += PAGE);
	MAP("to-write-what-can-be-read", .user_va = at + PAGE, .iova = file += PAGE);
	MAP("to-read-what-can-be-read", .user_va = at + PAGE, .iova = file += PAGE,
	    .flags = READ_ONLY);
	MAP("to-read-what-is-out-of-reach", .user_va = at + 2 * PAGE, .iova = file += PAGE,
	    .flags = READ_ONLY);
	MAP("to-write-what-can-be-written", .user_va = at + 3 * PAGE, .iova = file += PAGE);
	MAP("of-two-kinds", .user_va = at, .length = 2 * PAGE, .iova = file += PAGE);
	MAP("of-two-kinds-to-read", .user_va = at, .length = 2 * PAGE, .iova = file += 2 * PAGE,
	    .flags = READ_ONLY);
	file += PAGE;
	MAP("a-bar", .user_va = (uintptr_t)bar, .iova = file += PAGE);
	MAP("a-bar-to-read", .user_va = (uintptr_t)bar, .iova = file += PAGE, .flags = READ_ONLY);
	shared = map_file(memfd, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	MAP("a-memfd", .user_va = shared, .iova = file += PAGE);
	MAP("past-the-end-of-a-memfd", .user_va = shared + PAGE, .iova = file += PAGE);
	shared = map_file(disk, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	MAP("a-file-of-a-disk", .user_va = shared, .iova = file += PAGE);
	MAP("a-file-of-a-disk-to-read", .user_va = shared, .iova = file += PAGE,
	    .flags = READ_ONLY);
	private = map_file(disk, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	MAP("a-private-file-of-a-disk", .user_va = private, .iova = file += PAGE);
	private = map_file(-1, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
	MAP("shared-memory", .user_va = private, .iova = file += PAGE);
	MAP("unaligned-memory", .user_va = at + 8, .iova = file += PAGE);
	MAP("unaligned", .user_va = at, .iova = file + 8);
	MAP("half-a-page", .user_va = at, .length = PAGE / 2, .iova = file += PAGE);
	MAP("where-no-page-table-reaches", .user_va = at, .iova = END - 2 * PAGE + 1);
	MAP("nothing", .user_va = at, .length = 0, .iova = file += PAGE);
	need(munmap(va, PAGE) == 0, "munmap");
	UNMAP("memory-that-is-gone", PAGE, PAGE);
}

/* What is mapped already is pinned for the first page table. */
static void pin_later(struct descriptors *d)
{
	uint32_t device = bind_device(d, 0), ioas = new_ioas(d->iommufd), table;
	uint8_t *va = memory(PAGE, PROT_READ | PROT_WRITE);
	int disk = disk_file(PAGE);
	struct iommu_hwpt_alloc alloc = { .size = sizeof(alloc), .dev_id = device, .pt_id = ioas };

	MAP("memory-that-is-none", .user_va = 0x1000, .iova = PAGE);
	ATTACH("attach", .pt_id = ioas);
	ASK("page-table", d->iommufd, IOMMU_HWPT_ALLOC, &alloc);
	UNMAP("it", PAGE, PAGE);
	MAP_FD("a-file-of-a-disk", .fd = disk, .iova = PAGE);
	ATTACH("attach-to-a-file", .pt_id = ioas);
	UNMAP("the-file", PAGE, PAGE);
	MAP("unaligned", .user_va = (uintptr_t)va, .iova = 8, .length = 8);
	ATTACH("attach-to-what-is-unaligned", .pt_id = ioas);
	UNMAP("what-is-unaligned", 0, PAGE);
	MAP("where-interrupts-are", .user_va = (uintptr_t)va, .iova = 0xfee00000);
	table = new_table(d, device, ioas, 0);
	ATTACH("attach-where-interrupts-are", .pt_id = table);
	UNMAP("where-interrupts-were", 0xfee00000, PAGE);
	ATTACH("attach-at-last", .pt_id = table);
	MAP("where-interrupts-are-again", .user_va = (uintptr_t)va, .iova = 0xfee00000);
	MAP("memory", .user_va = (uintptr_t)va, .iova = PAGE);
	need(munmap(va, PAGE) == 0, "munmap");
	ATTACH("attach-to-another-table", .pt_id = ioas);
}

/* Map the page at `va` in a process of its own, which then waits until `until` is closed. */
static pid_t map_elsewhere(struct descriptors *d, uint32_t ioas, uint64_t va, int until[2])
{
	struct iommu_ioas_map map = { .size = sizeof(map), .flags = RW, .ioas_id = ioas,
				      .user_va = va, .length = PAGE, .iova = PAGE };
	int mapped[2];
	pid_t process;
	char byte;

	need(pipe(mapped) == 0 && pipe(until) == 0, "pipe");
	process = fork();
	if (process == 0) {
		close(until[1]);
		if (ioctl(d->iommufd, IOMMU_IOAS_MAP, &map) == 0 && write(mapped[1], "", 1) == 1)
			while (read(until[0], &byte, 1) > 0)
				;
		_exit(0);
	}
	close(mapped[1]);
	need(read(mapped[0], &byte, 1) == 1, "map in another process");
	return process;
}

/* What another process has mapped is pinned there. */
static void pin_elsewhere(struct descriptors *d)
{
	uint32_t ioas = new_ioas(d->iommufd), other = new_ioas(d->iommufd);
	uint8_t *va = memory(PAGE, PROT_READ | PROT_WRITE);
	int until[2];
	pid_t process = map_elsewhere(d, ioas, (uintptr_t)va, until);

	bind_device(d, 0);
	need(munmap(va, PAGE) == 0, "munmap");
	ATTACH("memory-of-another-process", .pt_id = ioas);
	close(until[1]);
	need(waitpid(process, NULL, 0) == process, "waitpid");
	UNMAP("it-has-ended", 0, END);
	va = memory(PAGE, PROT_READ | PROT_WRITE);
	process = map_elsewhere(d, other, (uintptr_t)va, until);
	close(until[1]);
	need(waitpid(process, NULL, 0) == process, "waitpid");
	ATTACH("memory-of-one-that-has-ended", .pt_id = other);
	ioas = other;
	UNMAP("that-memory", 0, END);
	ATTACH("without-that-memory", .pt_id = other);
}

static void map_files(struct descriptors *d)
{
	uint32_t device = bind_device(d, 0), ioas = new_ioas(d->iommufd), loose = new_ioas(d->iommufd);
	int memfd = memory_file(2 * PAGE), disk = disk_file(2 * PAGE);
	int folder = open(".", O_RDONLY | O_CLOEXEC), path = open(".", O_PATH | O_CLOEXEC);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), event = eventfd(0, EFD_CLOEXEC);
	int read_only = open("/proc/self/status", O_RDONLY | O_CLOEXEC), ends[2];
	uint64_t iova = 0;

	need(folder >= 0 && path >= 0 && null >= 0 && event >= 0 && read_only >= 0, "open");
	need(pipe2(ends, O_CLOEXEC) == 0, "pipe2");
	new_table(d, device, ioas, 0);
	MAP_FD("a-memfd", .fd = memfd, .iova = iova += PAGE);
	MAP_FD("its-second-page", .fd = memfd, .start = PAGE, .iova = iova += PAGE);
	MAP_FD("past-its-end", .fd = memfd, .start = 2 * PAGE, .iova = iova += PAGE);
	MAP_FD("over-its-end", .fd = memfd, .start = PAGE, .length = 2 * PAGE, .iova = iova += PAGE);
	MAP_FD("from-a-negative-offset", .fd = memfd, .start = 1ULL << 63, .iova = iova += PAGE);
	MAP_FD("that-wraps", .fd = memfd, .start = END - 8, .iova = iova += PAGE);
	MAP_FD("from-within-a-page", .fd = memfd, .start = 8, .iova = iova += PAGE);
	MAP_FD("nothing", .fd = memfd, .length = 0, .iova = iova += PAGE);
	MAP_FD("half-a-page", .fd = memfd, .length = PAGE / 2, .iova = iova += PAGE);
	MAP_FD("not-open", .fd = 777, .iova = iova += PAGE);
	MAP_FD("negative", .fd = -1, .iova = iova += PAGE);
	MAP_FD("nothing-of-not-open", .fd = 777, .length = 0, .iova = iova += PAGE);
	MAP_FD("not-open-for-nobody", .fd = 777, .ioas_id = NONE);
	MAP_FD("not-open-over-another", .fd = 777, .iova = PAGE);
	MAP_FD("a-file-of-a-disk", .fd = disk, .iova = iova += PAGE);
	MAP_FD("a-file-of-a-disk-to-read", .fd = disk, .iova = iova += PAGE, .flags = READ_ONLY);
	MAP_FD("a-file-of-proc", .fd = read_only, .iova = iova += PAGE, .flags = READ_ONLY);
	MAP_FD("a-folder", .fd = folder, .iova = iova += PAGE);
	MAP_FD("a-path", .fd = path, .iova = iova += PAGE);
	MAP_FD("a-null-device", .fd = null, .iova = iova += PAGE);
	MAP_FD("an-eventfd", .fd = event, .iova = iova += PAGE);
	MAP_FD("a-pipe", .fd = ends[0], .iova = iova += PAGE);
	MAP_FD("an-iommufd", .fd = d->iommufd, .iova = iova += PAGE);
	MAP_FD("with-an-unknown-flag", .fd = memfd, .iova = iova += PAGE, .flags = RW | 8);
	MAP_FD("neither-to-read-nor-write", .fd = memfd, .iova = iova += PAGE,
		 .flags = IOMMU_IOAS_MAP_FIXED_IOVA);
	MAP_FD("at-the-last-byte", .fd = memfd, .iova = END);
	MAP_FD("over-another", .fd = memfd, .iova = PAGE);
	MAP_FD("a-pipe-without-a-page-table", .fd = ends[0], .ioas_id = loose);
	MAP_FD("past-its-end-without-a-page-table", .fd = memfd, .start = 9 * PAGE,
		 .ioas_id = loose, .iova = PAGE);
	close(memfd);
	UNMAP("what-is-closed", PAGE, PAGE);
}

/* A BAR by the descriptor that its device gives of it. */
static void map_bar(struct descriptors *d)
{
	struct {
		struct vfio_device_feature feature;
		struct vfio_device_feature_dma_buf buffer;
		struct vfio_region_dma_range ranges[2];
	} get = {
		.feature = { .argsz = sizeof(get),
			     .flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF },
		.buffer = { .open_flags = O_CLOEXEC | O_RDWR, .nr_ranges = 1 },
		.ranges = { { .length = 2 * PAGE }, { .length = PAGE } },
	};
	uint32_t device = bind_device(d, 0), ioas = new_ioas(d->iommufd);
	uint16_t memory_on = 2;
	int bar, parts;

	/* The command register in configuration space: the BAR answers. */
	need(pwrite(d->devices[0], &memory_on, 2, (7ULL << 40) + 4) == 2, "enable the BAR");
	bar = ioctl(d->devices[0], VFIO_DEVICE_FEATURE, &get);
	get.buffer.nr_ranges = 2;
	parts = ioctl(d->devices[0], VFIO_DEVICE_FEATURE, &get);
	need(bar >= 0 && parts >= 0, "get the first BAR's dma-buf");
	MAP_FD("two-parts", .fd = parts, .iova = 9 * PAGE);
	MAP_FD("without-a-page-table", .fd = bar, .iova = PAGE);
	MAP_FD("past-its-end-without-a-page-table", .fd = bar, .start = 2 * PAGE, .iova = 8 * PAGE);
	TRY("change-process", IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, 0);
	new_table(d, device, ioas, 0);
	MAP_FD("all", .fd = bar, .length = 2 * PAGE, .iova = 2 * PAGE);
	MAP_FD("its-second-page", .fd = bar, .start = PAGE, .iova = 4 * PAGE);
	MAP_FD("to-read", .fd = bar, .iova = 5 * PAGE, .flags = READ_ONLY);
	MAP_FD("over-its-end", .fd = bar, .start = PAGE, .length = 2 * PAGE, .iova = 8 * PAGE);
	MAP_FD("past-its-end", .fd = bar, .start = 2 * PAGE, .iova = 8 * PAGE);
	MAP_FD("that-wraps", .fd = bar, .start = END - 8, .iova = 8 * PAGE);
	MAP_FD("over-another", .fd = bar, .iova = PAGE);
	MAP_FD("from-within-a-page", .fd = bar, .start = 8, .iova = 8 * PAGE);
	memory_on = 0;
	need(pwrite(d->devices[0], &memory_on, 2, (7ULL << 40) + 4) == 2, "disable the BAR");
	MAP_FD("while-it-is-off", .fd = bar, .iova = 9 * PAGE);
	MAP_FD("past-its-end-while-it-is-off", .fd = bar, .start = 2 * PAGE, .iova = 9 * PAGE);
	MAP_FD("two-parts-while-it-is-off", .fd = parts, .iova = 9 * PAGE);
	memory_on = 2;
	need(pwrite(d->devices[0], &memory_on, 2, (7ULL << 40) + 4) == 2, "enable the BAR");
	MAP_FD("once-it-is-on-again", .fd = bar, .iova = 9 * PAGE);
	close(bar);
	UNMAP("what-is-closed", 0, END);
}

static void unmap(struct descriptors *d)
{
	uint32_t ioas = new_ioas(d->iommufd);
	uint64_t va = (uintptr_t)memory(PAGE, PROT_READ | PROT_WRITE);

	UNMAP("all-of-none", 0, END);
	UNMAP("where-nothing-is", 0, PAGE);
	MAP("first", .user_va = va, .iova = PAGE);
	MAP("second", .user_va = va, .iova = 2 * PAGE);
	MAP("third", .user_va = va, .iova = 4 * PAGE);
	UNMAP("nothing", PAGE, 0);
	UNMAP("half-of-one", PAGE, PAGE / 2);
	UNMAP("one-and-a-half", PAGE, 2 * PAGE - 8);
	UNMAP("second-by-more", 2 * PAGE - 8, PAGE + 16);
	UNMAP("up-to-the-last-byte", 1, END);
	UNMAP("from-the-last-byte", END, 1);
	UNMAP("past-the-last-byte", END - 8, 16);
	UNMAP("across-a-gap", 0, 0x10000);
	MAP("once-more", .user_va = va, .iova = PAGE);
	UNMAP("all", 0, END);
	ioas = NONE;
	UNMAP("of-nobody", 0, PAGE);
	UNMAP("the-last-byte-of-nobody", END, 1);
}

#define COPY(name, ...)                                                                            \
	TRY(name, IOMMU_IOAS_COPY, iommu_ioas_copy, .flags = RW, .length = PAGE,                   \
	    .src_ioas_id = ioas, .dst_ioas_id = other, .src_iova = PAGE, __VA_ARGS__)

static void copy(struct descriptors *d)
{
	uint32_t ioas = new_ioas(d->iommufd), other = new_ioas(d->iommufd);
	uint64_t va = (uintptr_t)memory(4 * PAGE, PROT_READ | PROT_WRITE);

	MAP("first", .user_va = va, .iova = PAGE);
	MAP("second", .user_va = va + 2 * PAGE, .iova = 2 * PAGE);
	MAP("to-read", .user_va = va, .iova = 4 * PAGE, .flags = READ_ONLY);
	COPY("one", .dst_iova = 0x10000);
	COPY("over-it", .dst_iova = 0x10000);
	COPY("two", .dst_iova = 0x20000, .length = 2 * PAGE);
	COPY("a-part", .dst_iova = 0x30000, .src_iova = PAGE + 16, .length = 16);
	COPY("across-a-gap", .dst_iova = 0x40000, .length = 4 * PAGE);
	COPY("where-nothing-is", .dst_iova = 0x40000, .src_iova = 0x100000);
	COPY("nothing", .dst_iova = 0x40000, .length = 0);
	COPY("what-is-to-read-to-write", .dst_iova = 0x40000, .src_iova = 4 * PAGE);
	COPY("what-is-to-read", .dst_iova = 0x50000, .src_iova = 4 * PAGE, .flags = READ_ONLY);
	COPY("neither-to-read-nor-write", .dst_iova = 0x60000, .flags = IOMMU_IOAS_MAP_FIXED_IOVA);
	COPY("with-an-unknown-flag", .dst_iova = 0x60000, .flags = RW | 8);
	COPY("from-nobody", .dst_iova = 0x60000, .src_ioas_id = NONE);
	COPY("to-nobody", .dst_iova = 0x60000, .dst_ioas_id = NONE);
	COPY("nothing-to-nobody", .src_iova = 0x100000, .dst_ioas_id = NONE);
	COPY("to-the-last-byte", .dst_iova = END);
	COPY("from-the-last-byte", .src_iova = END);
	COPY("past-the-last-byte", .src_iova = END - 8, .length = 16);
	COPY("to-itself", .dst_iova = 0x60000, .dst_ioas_id = ioas);
	ioas = other;
	UNMAP("copies", 0, END);
}

/* --- options --------------------------------------------------------------------------------- */

#define OPTION(name, ...)                                                                          \
	do {                                                                                       \
		struct iommu_option asked = { .size = sizeof(asked), .val64 = 7, __VA_ARGS__ };    \
		ASK(name, d->iommufd, IOMMU_OPTION, &asked, "value=%llu", asked.val64);            \
	} while (0)
#define RLIMIT .option_id = IOMMU_OPTION_RLIMIT_MODE
#define HUGE .option_id = IOMMU_OPTION_HUGE_PAGES, .object_id = ioas

/* A process without CAP_SYS_RESOURCE may not set the first of them (EPERM): be root. */
static void option(struct descriptors *d)
{
	uint64_t va = (uintptr_t)memory(PAGE, PROT_READ | PROT_WRITE);
	uint32_t ioas, device;

	OPTION("rlimit", RLIMIT, .op = IOMMU_OPTION_OP_GET);
	OPTION("set-rlimit", RLIMIT, .val64 = 1);
	OPTION("rlimit-that-was-set", RLIMIT, .op = IOMMU_OPTION_OP_GET);
	OPTION("set-rlimit-to-2", RLIMIT, .val64 = 2);
	OPTION("rlimit-of-an-object", RLIMIT, .object_id = 1, .op = IOMMU_OPTION_OP_GET);
	OPTION("rlimit-what", RLIMIT, .op = 2);
	ioas = new_ioas(d->iommufd);
	OPTION("set-rlimit-too-late", RLIMIT, .val64 = 0);
	OPTION("huge-pages", HUGE, .op = IOMMU_OPTION_OP_GET);
	OPTION("set-huge-pages-to-2", HUGE, .val64 = 2);
	OPTION("huge-pages-what", HUGE, .op = 2);
	MAP("unaligned", .user_va = va, .length = 8);
	OPTION("no-huge-pages-where-it-is-unaligned", HUGE, .val64 = 0);
	UNMAP("what-is-unaligned", 0, END);
	OPTION("no-huge-pages", HUGE, .val64 = 0);
	OPTION("huge-pages-that-were-set", HUGE, .op = IOMMU_OPTION_OP_GET);
	MAP("unaligned-now", .user_va = va, .length = 8);
	OPTION("huge-pages-again", HUGE, .val64 = 1);
	device = bind_device(d, 0);
	new_table(d, device, ioas, 0);
	MAP("memory", .user_va = va);
	OPTION("no-huge-pages-too-late", HUGE, .val64 = 0);
	OPTION("huge-pages-of-nothing", HUGE, .object_id = NONE, .op = IOMMU_OPTION_OP_GET);
	OPTION("huge-pages-of-a-device", HUGE, .object_id = device, .op = IOMMU_OPTION_OP_GET);
	OPTION("unknown", .option_id = 2, .op = IOMMU_OPTION_OP_GET);
	OPTION("reserved", RLIMIT, .op = IOMMU_OPTION_OP_GET, .__reserved = 1);
}

#define COMPAT(name, ...)                                                                          \
	do {                                                                                       \
		struct iommu_vfio_ioas asked = { .size = sizeof(asked), __VA_ARGS__ };             \
		ASK(name, d->iommufd, IOMMU_VFIO_IOAS, &asked, "id=%u", asked.ioas_id);            \
	} while (0)

static void vfio_ioas(struct descriptors *d)
{
	uint32_t ioas = new_ioas(d->iommufd);

	COMPAT("get-none", .op = IOMMU_VFIO_IOAS_GET);
	COMPAT("set", .op = IOMMU_VFIO_IOAS_SET, .ioas_id = ioas);
	COMPAT("get", .op = IOMMU_VFIO_IOAS_GET);
	COMPAT("set-to-nothing", .op = IOMMU_VFIO_IOAS_SET, .ioas_id = NONE);
	COMPAT("clear", .op = IOMMU_VFIO_IOAS_CLEAR);
	COMPAT("get-cleared", .op = IOMMU_VFIO_IOAS_GET);
	COMPAT("set-again", .op = IOMMU_VFIO_IOAS_SET, .ioas_id = ioas);
	DESTROY("destroy", ioas);
	COMPAT("get-destroyed", .op = IOMMU_VFIO_IOAS_GET);
	COMPAT("what", .op = 3);
	COMPAT("reserved", .op = IOMMU_VFIO_IOAS_CLEAR, .__reserved = 1);
}

static void change_process(struct descriptors *d)
{
	uint64_t va = (uintptr_t)memory(PAGE, PROT_READ | PROT_WRITE);
	uint32_t ioas = new_ioas(d->iommufd);
	int memfd = memory_file(PAGE);

	TRY("nothing", IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, 0);
	MAP_FD("a-file", .fd = memfd);
	TRY("files", IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, 0);
	ioas = new_ioas(d->iommufd);
	MAP("memory", .user_va = va);
	TRY("memory-as-well", IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, 0);
	UNMAP("what-is-memory", 0, PAGE);
	TRY("files-alone", IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, 0);
	TRY("reserved", IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, .__reserved = 1);
}

/* --- page tables ----------------------------------------------------------------------------- */

#define HWPT(name, ...)                                                                            \
	TRY(name, IOMMU_HWPT_ALLOC, iommu_hwpt_alloc, .dev_id = device, .pt_id = ioas, __VA_ARGS__)

/* The device's IOMMU need not have anything but page tables. */
static void page_tables(struct descriptors *d)
{
	uint32_t device = bind_device(d, 0), ioas = new_ioas(d->iommufd), table, second;
	struct iommu_hwpt_alloc alloc = { .size = sizeof(alloc), .dev_id = device, .pt_id = ioas };

	ASK("alloc", d->iommufd, IOMMU_HWPT_ALLOC, &alloc, "id=%u", alloc.out_hwpt_id);
	table = alloc.out_hwpt_id;
	HWPT("for-nobody", .dev_id = NONE);
	HWPT("for-an-address-space", .dev_id = ioas);
	HWPT("of-nothing", .pt_id = NONE);
	HWPT("of-a-device", .pt_id = device);
	HWPT("of-a-page-table", .pt_id = table);
	HWPT("of-nothing-for-nobody", .pt_id = NONE, .dev_id = NONE);
	HWPT("with-an-unknown-flag", .flags = 1u << 31);
	HWPT("with-an-unknown-flag-for-nobody", .flags = 1u << 31, .dev_id = NONE);
	HWPT("for-faults-and-nesting",
	     .flags = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_FAULT_ID_VALID);
	HWPT("for-faults-without-a-queue", .flags = IOMMU_HWPT_FAULT_ID_VALID, .fault_id = NONE);
	HWPT("for-faults-to-an-address-space", .flags = IOMMU_HWPT_FAULT_ID_VALID, .fault_id = ioas);
	HWPT("data-without-a-type", .data_len = 8);
	HWPT("type-without-data", .data_type = 1);
	HWPT("data-of-an-unknown-type", .data_type = 77, .data_len = 8);
	HWPT("reserved", .__reserved = 1);
	DESTROY("address-space-in-use", ioas);
	DESTROY("device", device);
	ATTACH("attach", .pt_id = table);
	DESTROY("table-in-use", table);
	ATTACH("attach-again", .pt_id = table);
	ATTACH("attach-to-nothing", .pt_id = NONE);
	ATTACH("attach-to-a-device", .pt_id = device);
	second = new_table(d, device, ioas, 0);
	ATTACH("attach-to-another", .pt_id = second);
	DESTROY("table-that-was-left", table);
	ATTACH("attach-to-the-address-space", .pt_id = ioas);
	DESTROY("second", second);
	TRY("bitmap-of-a-device", IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap,
	    .hwpt_id = device);
}

#define BIND(name, ...)                                                                            \
	do {                                                                                       \
		struct vfio_device_bind_iommufd asked = { .argsz = sizeof(asked),                  \
							  .iommufd = d->iommufd, __VA_ARGS__ };    \
		ASK(name, d->devices[0], VFIO_DEVICE_BIND_IOMMUFD, &asked);                        \
	} while (0)

/* Which iommufd a device is bound to. */
static void bind_to(struct descriptors *d)
{
	uint8_t *room = memory(3 * PAGE, PROT_READ | PROT_WRITE);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), path = open("/", O_PATH | O_CLOEXEC);
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = d->iommufd };

	need(null >= 0 && path >= 0, "open");
	BIND("not-open", .iommufd = 777);
	BIND("negative", .iommufd = -1);
	BIND("a-null-device", .iommufd = null);
	BIND("a-path", .iommufd = path);
	BIND("itself", .iommufd = d->devices[0]);
	BIND("standard-output", .iommufd = 1);
	BIND("with-an-unknown-flag", .flags = 2);
	BIND("with-an-unknown-flag-not-open", .flags = 2, .iommufd = 777);
	BIND("with-a-token", .flags = VFIO_DEVICE_BIND_FLAG_TOKEN, .token_uuid_ptr = (uintptr_t)room);
	BIND("with-a-token-nowhere", .flags = VFIO_DEVICE_BIND_FLAG_TOKEN, .token_uuid_ptr = 0);
	BIND("too-short", .argsz = 15);
	*(struct vfio_device_bind_iommufd *)room = bind;
	((uint32_t *)room)[0] = sizeof(bind) + 8;
	room[sizeof(bind) + 7] = 1;
	ASK("newer", d->devices[0], VFIO_DEVICE_BIND_IOMMUFD, room);
	room[sizeof(bind) + 7] = 0;
	room[2 * PAGE] = 1;
	((uint32_t *)room)[0] = 3 * PAGE;
	ASK("newer-by-pages", d->devices[0], VFIO_DEVICE_BIND_IOMMUFD, room);
	ASK("nowhere", d->devices[0], VFIO_DEVICE_BIND_IOMMUFD, NULL);
	ASK("bind", d->devices[0], VFIO_DEVICE_BIND_IOMMUFD, &bind, "id=%u", bind.out_devid);
	BIND("again", .flags = 0);
	BIND("again-not-open", .iommufd = 777);
}

#define DETACH(name, ...)                                                                          \
	do {                                                                                       \
		struct vfio_device_detach_iommufd_pt asked = { .argsz = sizeof(asked),             \
							       __VA_ARGS__ };                      \
		ASK(name, d->devices[0], VFIO_DEVICE_DETACH_IOMMUFD_PT, &asked);                   \
	} while (0)

/* The device has no PASIDs. */
static void attaching(struct descriptors *d)
{
	uint32_t ioas = new_ioas(d->iommufd);
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = ioas };

	ATTACH("unbound", .pt_id = ioas);
	DETACH("unbound-detach", .flags = 0);
	bind_device(d, 0);
	DETACH("not-attached", .flags = 0);
	ATTACH("with-an-unknown-flag", .pt_id = ioas, .flags = 2);
	ATTACH("too-short", .pt_id = ioas, .argsz = 11);
	ATTACH("pasid-too-short", .pt_id = ioas, .argsz = 12, .flags = VFIO_DEVICE_ATTACH_PASID);
	ATTACH("pasid", .pt_id = ioas, .flags = VFIO_DEVICE_ATTACH_PASID, .pasid = 5);
	ATTACH("pasid-to-nothing", .pt_id = NONE, .flags = VFIO_DEVICE_ATTACH_PASID, .pasid = 5);
	DETACH("with-an-unknown-flag-detach", .flags = 2);
	DETACH("too-short-detach", .argsz = 7);
	DETACH("pasid-too-short-detach", .argsz = 8, .flags = VFIO_DEVICE_DETACH_PASID);
	DETACH("pasid-detach", .flags = VFIO_DEVICE_DETACH_PASID, .pasid = 5);
	ASK("nowhere", d->devices[0], VFIO_DEVICE_ATTACH_IOMMUFD_PT, NULL);
	ASK("detach-nowhere", d->devices[0], VFIO_DEVICE_DETACH_IOMMUFD_PT, NULL);
	ASK("attach", d->devices[0], VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach, "id=%u", attach.pt_id);
	DESTROY("its-page-table", attach.pt_id);
	DESTROY("its-address-space", ioas);
	DETACH("detach", .flags = 0);
	DESTROY("its-page-table-is-gone", attach.pt_id);
	DESTROY("its-address-space-at-last", ioas);
}

#define HW_INFO(name, ...)                                                                         \
	do {                                                                                       \
		struct iommu_hw_info asked = { .size = sizeof(asked), .dev_id = device,            \
					       __VA_ARGS__ };                                      \
		ASK(name, d->iommufd, IOMMU_GET_HW_INFO, &asked);                                  \
	} while (0)

/* What kind of IOMMU it is, is not asked; the buffer is zeroed behind what it tells. */
static void hw_info(struct descriptors *d)
{
	uint32_t device = bind_device(d, 0), ioas = new_ioas(d->iommufd);
	uint8_t *room = memory(2 * PAGE, PROT_READ | PROT_WRITE);
	struct iommu_hw_info info = { .size = sizeof(info), .dev_id = device, .data_len = PAGE,
				      .data_uptr = (uintptr_t)room };

	memset(room, 0xff, 2 * PAGE);
	ASK("buffer", d->iommufd, IOMMU_GET_HW_INFO, &info, "last=%#x after=%#x smaller=%d",
	    room[PAGE - 1], room[PAGE], info.data_len < PAGE);
	HW_INFO("no-buffer", .data_len = 0);
	HW_INFO("buffer-nowhere", .data_len = PAGE);
	HW_INFO("of-the-default-type", .flags = IOMMU_HW_INFO_FLAG_INPUT_TYPE);
	HW_INFO("with-an-unknown-flag", .flags = 2);
	HW_INFO("with-an-unknown-flag-of-nobody", .flags = 2, .dev_id = NONE);
	HW_INFO("reserved", .__reserved = { 0, 0, 1 });
	HW_INFO("reserved-of-nobody", .__reserved = { 1 }, .dev_id = NONE);
	HW_INFO("of-nobody", .dev_id = NONE);
	HW_INFO("of-an-address-space", .dev_id = ioas);
	need(mprotect(room, PAGE, PROT_READ) == 0, "mprotect");
	HW_INFO("read-only-buffer", .data_len = PAGE, .data_uptr = (uintptr_t)room);
}

/* Nested page tables, faults and parts of an IOMMU for a guest: what is refused by any IOMMU. */
static void nesting(struct descriptors *d)
{
	uint32_t device = bind_device(d, 0), ioas = new_ioas(d->iommufd);
	uint32_t table = new_table(d, device, ioas, 0);
	struct iommu_hwpt_invalidate gone = { .size = sizeof(gone), .hwpt_id = table,
					      .entry_num = 1, .entry_len = 8 };

#define INVALIDATE(name, ...)                                                                      \
	TRY(name, IOMMU_HWPT_INVALIDATE, iommu_hwpt_invalidate, .hwpt_id = table, __VA_ARGS__)
	ASK("invalidate-no-data", d->iommufd, IOMMU_HWPT_INVALIDATE, &gone, "count=%u",
	    gone.entry_num);
	INVALIDATE("invalidate-nothing", .entry_num = 0);
	INVALIDATE("invalidate-too-large", .entry_num = 1, .entry_len = PAGE + 1, .data_uptr = 8);
	INVALIDATE("invalidate-too-many", .entry_num = (1 << 19) + 1, .entry_len = 8,
		   .data_uptr = 8, .hwpt_id = NONE);
	INVALIDATE("invalidate-many-of-nothing", .entry_num = 1 << 19, .entry_len = 8,
		   .data_uptr = 8, .hwpt_id = NONE);
	INVALIDATE("invalidate-of-nothing", .hwpt_id = NONE);
	INVALIDATE("invalidate-of-a-device", .hwpt_id = device);
	INVALIDATE("invalidate-reserved", .__reserved = 1, .hwpt_id = NONE);
	TRY("viommu-of-no-type", IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, .dev_id = NONE);
	TRY("viommu-with-flags", IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, .dev_id = NONE,
	    .type = 1, .flags = 1);
	TRY("viommu-of-nobody", IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc, .dev_id = NONE, .type = 1);
	TRY("viommu-of-an-unknown-type", IOMMU_VIOMMU_ALLOC, iommu_viommu_alloc,
	    .dev_id = device, .hwpt_id = table, .type = 0x7fffffff);
	TRY("vdevice-of-nothing", IOMMU_VDEVICE_ALLOC, iommu_vdevice_alloc, .viommu_id = NONE);
	TRY("events-of-no-depth", IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc, .viommu_id = NONE,
	    .type = 1);
	TRY("events-of-no-type", IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc, .viommu_id = NONE,
	    .veventq_depth = 1);
	TRY("queue-of-no-length", IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc, .viommu_id = NONE,
	    .type = 1);
	TRY("queue-past-the-last-byte", IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc,
	    .viommu_id = NONE, .type = 1, .length = PAGE, .nesting_parent_iova = END);
	TRY("events-of-nothing", IOMMU_VEVENTQ_ALLOC, iommu_veventq_alloc, .viommu_id = NONE,
	    .type = 1, .veventq_depth = 1);
	TRY("queue-of-nothing", IOMMU_HW_QUEUE_ALLOC, iommu_hw_queue_alloc, .viommu_id = NONE,
	    .type = 1, .length = PAGE);
	TRY("faults-with-flags", IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc, .flags = 1);
	TRY("faults", IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc, .flags = 0);
}

/* --- dirty bits ------------------------------------------------------------------------------ */

#define TRACK(name, ...)                                                                           \
	TRY(name, IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking, .hwpt_id = table,  \
	    __VA_ARGS__)
#define BITMAP(name, ...)                                                                          \
	TRY(name, IOMMU_HWPT_GET_DIRTY_BITMAP, iommu_hwpt_get_dirty_bitmap, .hwpt_id = table,      \
	    .length = 4 * PAGE, .page_size = PAGE, .data = (uintptr_t)bits, __VA_ARGS__)

/* The device's IOMMU has to have dirty bits; the device writes nothing. */
static void dirty(struct descriptors *d)
{
	uint32_t device = bind_device(d, 0), ioas = new_ioas(d->iommufd);
	uint32_t table = new_table(d, device, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
	uint32_t plain = new_table(d, device, ioas, 0);
	uint64_t va = (uintptr_t)memory(4 * PAGE, PROT_READ | PROT_WRITE);
	uint64_t bits[8] = { 0 };

	MAP("memory", .user_va = va, .length = 4 * PAGE);
	BITMAP("before-it-is-on", .flags = 0);
	TRACK("on", .flags = IOMMU_HWPT_DIRTY_TRACKING_ENABLE);
	TRACK("on-again", .flags = IOMMU_HWPT_DIRTY_TRACKING_ENABLE);
	TRACK("reserved", .flags = IOMMU_HWPT_DIRTY_TRACKING_ENABLE, .__reserved = 1);
	TRACK("with-an-unknown-flag", .flags = 2);
	TRACK("with-an-unknown-flag-of-nothing", .flags = 2, .hwpt_id = NONE);
	TRACK("of-nothing", .hwpt_id = NONE);
	TRACK("of-an-address-space", .hwpt_id = ioas);
	TRACK("of-a-table-without-dirty-bits", .hwpt_id = plain);
	BITMAP("bitmap", .flags = 0);
	BITMAP("bitmap-that-stays", .flags = IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR);
	BITMAP("with-an-unknown-flag-bitmap", .flags = 2);
	BITMAP("reserved-bitmap", .__reserved = 1);
	BITMAP("of-nothing-bitmap", .hwpt_id = NONE);
	BITMAP("of-a-table-without-dirty-bits-bitmap", .hwpt_id = plain);
	BITMAP("of-a-table-without-dirty-bits-unaligned", .hwpt_id = plain, .iova = 8);
	BITMAP("of-no-length", .length = 0);
	BITMAP("of-no-length-at-the-end", .length = 0, .iova = END);
	BITMAP("of-half-a-page", .length = PAGE / 2);
	BITMAP("from-half-a-page", .iova = PAGE / 2, .length = PAGE);
	BITMAP("of-unmapped-memory", .iova = 0x100000);
	BITMAP("of-partly-mapped-memory", .length = 8 * PAGE);
	BITMAP("past-the-last-byte", .iova = END - PAGE + 1, .length = 2 * PAGE);
	BITMAP("pages-of-none", .page_size = 0);
	BITMAP("pages-of-512-bytes", .page_size = 512);
	BITMAP("pages-of-1-byte", .page_size = 1);
	BITMAP("pages-of-two", .page_size = 2 * PAGE);
	BITMAP("pages-of-two-from-the-second", .page_size = 2 * PAGE, .iova = PAGE, .length = PAGE);
	BITMAP("pages-of-three", .page_size = 3 * PAGE, .length = 3 * PAGE);
	BITMAP("pages-of-eight", .page_size = 8 * PAGE);
	BITMAP("to-nowhere", .data = 0);
	TRACK("off", .flags = 0);
	TRACK("off-again", .flags = 0);
	BITMAP("after-it-is-off", .flags = 0);
}

/* An IOMMU without dirty bits. */
static void no_dirty(struct descriptors *d)
{
	uint32_t device = bind_device(d, 0), ioas = new_ioas(d->iommufd);
	struct iommu_hw_info info = { .size = sizeof(info), .dev_id = device };

	HWPT("alloc", .flags = IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
	ASK("hw-info", d->iommufd, IOMMU_GET_HW_INFO, &info, "dirty=%llu",
	    info.out_capabilities & IOMMU_HW_CAP_DIRTY_TRACKING);
}

const struct group iommufd_groups[] = {
	{ "arguments", arguments },
	{ "descriptor", descriptor },
	{ "container", container },
	{ "ioas", ioas },
	{ "allow", allow },
	{ "map", map },
	{ "pin", pin },
	{ "pin-later", pin_later },
	{ "pin-elsewhere", pin_elsewhere },
	{ "map-files", map_files },
	{ "map-bar", map_bar },
	{ "unmap", unmap },
	{ "copy", copy },
	{ "option", option },
	{ "vfio-ioas", vfio_ioas },
	{ "change-process", change_process },
	{ "page-tables", page_tables },
	{ "bind-to", bind_to },
	{ "attaching", attaching },
	{ "hw-info", hw_info },
	{ "nesting", nesting },
	{ "dirty", dirty },
	{ "no-dirty", no_dirty },
	{ 0 },
};
