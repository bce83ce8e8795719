/* Cases about VFIO_DEVICE_FEATURE, and what there is to read in precopy. Answers: features.toml. */
#define _GNU_SOURCE
#include "probe.h"

#define GET VFIO_DEVICE_FEATURE_GET
#define SET VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE
#define HEADER sizeof(struct vfio_device_feature)

/* A header, and room for the feature's own structure. */
struct feature {
	struct vfio_device_feature head;
	uint64_t data[64];
};

/* `size`: bytes of data that are said to follow the header. */
static void ask(const char *name, int device, uint32_t flags, struct feature *feature, size_t size)
{
	feature->head.argsz = HEADER + size;
	feature->head.flags = flags;
	ASK(name, device, VFIO_DEVICE_FEATURE, feature);
}

static void plain(const char *name, int device, uint32_t flags, size_t size)
{
	struct feature feature = { 0 };

	ask(name, device, flags, &feature, size);
}

/* Which features there are, and which operations of each. */
static void features_probe(struct descriptors *d)
{
	static const struct {
		const char *name;
		uint32_t flags;
	} ways[] = { { "probe", PROBE }, { "probe-get", PROBE | GET }, { "probe-set", PROBE | SET },
		     { "probe-both", PROBE | GET | SET } };
	int device = d->devices[0];
	struct feature feature = { 0 };
	char name[64];

	bind_device(d, 0);
	for (unsigned number = 0; number <= 13; number++)
		for (unsigned way = 0; way < sizeof(ways) / sizeof(*ways); way++) {
			snprintf(name, sizeof(name), "%s-%u", ways[way].name, number);
			plain(name, device, ways[way].flags | number, 0);
		}
	plain("probe-65535", device, PROBE | 0xffff, 0);
	plain("nothing", device, VFIO_DEVICE_FEATURE_MIGRATION, 8);
	plain("get-and-set", device, GET | SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 8);
	plain("unknown-flag", device, GET | 1u << 19 | VFIO_DEVICE_FEATURE_MIGRATION, 8);
	plain("unknown-flag-and-probe", device, PROBE | 1u << 31 | VFIO_DEVICE_FEATURE_MIGRATION, 8);
	plain("get-unknown", device, GET | 13, 8);
	plain("get-and-set-unknown", device, GET | SET | 13, 8);
	plain("set-of-what-is-got", device, SET | VFIO_DEVICE_FEATURE_MIGRATION, 8);
	plain("get-of-what-is-set", device, GET | VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, 0);
	ask("migration", device, GET | VFIO_DEVICE_FEATURE_MIGRATION, &feature, 8);
	ask("migration-too-short", device, GET | VFIO_DEVICE_FEATURE_MIGRATION, &feature, 7);
	ask("migration-longer", device, GET | VFIO_DEVICE_FEATURE_MIGRATION, &feature, 1 << 20);
	ask("state-too-short", device, GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &feature, 7);
	ask("set-state-too-short", device, SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &feature, 7);
	ask("size-too-short", device, GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, &feature, 7);
	ask("log-too-short", device, SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &feature, 23);
	ask("report-too-short", device, GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &feature, 31);
	feature.head = (struct vfio_device_feature){ .argsz = 7, .flags = PROBE | 1 };
	ASK("too-short", device, VFIO_DEVICE_FEATURE, &feature);
	feature.head.argsz = 0;
	ASK("of-size-0", device, VFIO_DEVICE_FEATURE, &feature);
	ASK("at-nothing", device, VFIO_DEVICE_FEATURE, NULL);
}

/* Structures that lie where they can't be read, or written. */
static void features_memory(struct descriptors *d)
{
	int device = d->devices[0];
	char *page = memory(2 * PAGE, PROT_READ | PROT_WRITE);
	struct vfio_device_feature *last = (void *)(page + PAGE - HEADER);
	struct vfio_device_feature *whole = (void *)page;

	bind_device(d, 0);
	need(mprotect(page + PAGE, PAGE, PROT_NONE) == 0, "mprotect");
	*last = (struct vfio_device_feature){ .argsz = HEADER, .flags = PROBE | 1 };
	ASK("header-at-the-end", device, VFIO_DEVICE_FEATURE, last);
	last->flags = GET | VFIO_DEVICE_FEATURE_MIGRATION;
	last->argsz = HEADER + 8;
	ASK("get-to-nowhere", device, VFIO_DEVICE_FEATURE, last);
	last->flags = SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
	ASK("set-from-nowhere", device, VFIO_DEVICE_FEATURE, last);
	ASK("half-a-header", device, VFIO_DEVICE_FEATURE, page + PAGE - HEADER / 2);
	*whole = (struct vfio_device_feature){ .argsz = HEADER + 8,
					       .flags = GET | VFIO_DEVICE_FEATURE_MIGRATION };
	need(mprotect(page, PAGE, PROT_READ) == 0, "mprotect");
	ASK("get-to-what-is-read-only", device, VFIO_DEVICE_FEATURE, whole);
	need(mprotect(page, PAGE, PROT_NONE) == 0, "mprotect");
	ASK("at-what-is-protected", device, VFIO_DEVICE_FEATURE, whole);
}

static void share(const char *name, int device, uint32_t region, uint32_t flags, uint32_t count,
		  uint64_t offset, uint64_t length, int *fd)
{
	struct feature feature = { 0 };
	struct vfio_device_feature_dma_buf *wanted = (void *)feature.data;
	long said;

	feature.head.argsz = HEADER + sizeof(*wanted) + 16;
	feature.head.flags = GET | VFIO_DEVICE_FEATURE_DMA_BUF;
	wanted->region_index = region;
	wanted->open_flags = O_RDWR | O_CLOEXEC;
	wanted->flags = flags;
	wanted->nr_ranges = count;
	wanted->dma_ranges[0].offset = offset;
	wanted->dma_ranges[0].length = length;
	errno = 0;
	said = ioctl(device, VFIO_DEVICE_FEATURE, &feature);
	answer(name, said < 0 ? said : 0, "");
	if (fd)
		*fd = (int)said;
}

/* Have the IOMMU map a page of a dma-buf. */
static void map_file(const char *name, int iommufd, uint32_t ioas, int fd, uint64_t iova)
{
	struct iommu_ioas_map_file map = { .size = sizeof(map), .ioas_id = ioas, .fd = fd,
					   .length = PAGE, .iova = iova };

	map.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
	ASK(name, iommufd, IOMMU_IOAS_MAP_FILE, &map);
}

static void set_memory(int device, uint16_t command)
{
	need(pwrite(device, &command, 2, (7ULL << 40) + 4) == 2, "write the command register");
}

/* dma-bufs that are mapped: while the BAR answers, and of one part. */
static void features_dma_buf_map(struct descriptors *d)
{
	struct {
		struct vfio_device_feature feature;
		struct vfio_device_feature_dma_buf buffer;
		struct vfio_region_dma_range ranges[2];
	} two = {
		.feature = { .argsz = sizeof(two),
			     .flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF },
		.buffer = { .open_flags = O_CLOEXEC | O_RDWR, .nr_ranges = 2 },
		.ranges = { { .length = PAGE }, { .offset = 2 * PAGE, .length = PAGE } },
	};
	int device = d->devices[0], fd, parts;
	uint32_t ioas;

	bind_device(d, 0);
	ioas = new_ioas(d->iommufd);
	set_memory(device, 0);
	share("with-memory-off", device, 0, 0, 1, 0, PAGE, &fd);
	map_file("map-with-memory-off", d->iommufd, ioas, fd, 0);
	set_memory(device, 2);
	map_file("map-with-memory-on", d->iommufd, ioas, fd, 0);
	parts = ioctl(device, VFIO_DEVICE_FEATURE, &two);
	need(parts >= 0, "get a dma-buf of two parts");
	answer("size-of-two-parts", lseek(parts, 0, SEEK_END), "");
	map_file("map-two-parts", d->iommufd, ioas, parts, PAGE);
	set_memory(device, 0);
	map_file("map-with-memory-off-again", d->iommufd, ioas, fd, PAGE);
}

/* dma-bufs for parts of a BAR, the first of 64 KiB or more. */
static void features_dma_buf(struct descriptors *d)
{
	int device = d->devices[0], fd;
	struct feature feature = { 0 };

	bind_device(d, 0);
	share("page", device, 0, 0, 1, 0, PAGE, &fd);
	answer("is-closed-on-exec", fcntl(fd, F_GETFD) & FD_CLOEXEC, "");
	answer("size", lseek(fd, 0, SEEK_END), "");
	close(fd);
	share("no-ranges", device, 0, 0, 0, 0, PAGE, NULL);
	share("flags", device, 0, 1, 1, 0, PAGE, NULL);
	share("rom", device, VFIO_PCI_ROM_REGION_INDEX, 0, 1, 0, PAGE, NULL);
	share("config", device, VFIO_PCI_CONFIG_REGION_INDEX, 0, 1, 0, PAGE, NULL);
	share("region-9", device, 9, 0, 1, 0, PAGE, NULL);
	share("absent-bar", device, 1, 0, 1, 0, PAGE, NULL);
	share("nothing", device, 0, 0, 1, 0, 0, NULL);
	share("part-of-a-page", device, 0, 0, 1, 0, 100, NULL);
	share("unaligned", device, 0, 0, 1, 100, PAGE, NULL);
	share("beyond-the-end", device, 0, 0, 1, 1UL << 40, PAGE, NULL);
	share("over-the-end", device, 0, 0, 1, 0, 1UL << 40, NULL);
	share("half-of-everything", device, 0, 0, 1, 0, 1UL << 63, NULL);
	share("wraps", device, 0, 0, 1, -PAGE, PAGE, NULL);
	share("far-too-many-ranges", device, 0, 0, ~0u, 0, PAGE, NULL);
	ask("too-short", device, GET | VFIO_DEVICE_FEATURE_DMA_BUF, &feature, 15);
	ask("set", device, SET | VFIO_DEVICE_FEATURE_DMA_BUF, &feature, 32);
}

static int set_state(int device, uint32_t state)
{
	struct feature feature = { .head = { .argsz = HEADER + 8,
					     .flags = SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE } };
	struct vfio_device_feature_mig_state *wanted = (void *)feature.data;

	wanted->device_state = state;
	need(ioctl(device, VFIO_DEVICE_FEATURE, &feature) == 0, "set the state");
	return wanted->data_fd;
}

static void info(const char *name, int fd, uint32_t argsz)
{
	struct vfio_precopy_info info = { .argsz = argsz, .flags = 0xf0 };

	ASK(name, fd, VFIO_MIG_GET_PRECOPY_INFO, &info, "flags=%#x", info.flags);
}

/* What is left in precopy: of a device whose driver has PRECOPY_INFOv2. */
static void features_precopy(struct descriptors *d)
{
	int device = d->devices[0], fd;
	static char buffer[1 << 20];
	ssize_t got;

	bind_device(d, 0);
	fd = set_state(device, VFIO_DEVICE_STATE_PRE_COPY);
	info("flags-are-left-without-the-opt-in", fd, 24);
	info("too-short", fd, 23);
	info("of-size-0", fd, 0);
	info("longer", fd, 4096);
	ASK("at-nothing", fd, VFIO_MIG_GET_PRECOPY_INFO, NULL);
	ASK("another-request", fd, VFIO_DEVICE_GET_INFO, NULL);
	plain("opt-in", device, SET | VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, 0);
	plain("opt-in-again", device, SET | VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, 0);
	plain("opt-in-with-data", device, SET | VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, 100);
	info("flags-are-cleared-with-it", fd, 24);
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		;
	answer("dry", got, "");
	set_state(device, VFIO_DEVICE_STATE_STOP_COPY);
	info("in-stop-copy", fd, 24);
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		;
	answer("at-the-end", got, "");
	set_state(device, VFIO_DEVICE_STATE_RUNNING);
	info("in-running", fd, 24);
}

const struct group feature_groups[] = {
	{ "features-probe", features_probe },
	{ "features-memory", features_memory },
	{ "features-dma-buf", features_dma_buf },
	{ "features-dma-buf-map", features_dma_buf_map },
	{ "features-precopy", features_precopy },
	{ 0 },
};
