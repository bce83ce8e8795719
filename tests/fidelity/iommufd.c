/* Cases about an iommufd: address spaces, mappings, page tables. Answers: iommufd.toml. */
#include "probe.h"

/* Address spaces. */
static void ioas(struct descriptors *d)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	struct iommu_ioas_iova_ranges ranges = { .size = sizeof(ranges) };
	struct iommu_iova_range found[4] = { 0 };
	struct iommu_destroy gone = { .size = sizeof(gone) };

	ASK("alloc", d->iommufd, IOMMU_IOAS_ALLOC, &alloc, "id=%u", alloc.out_ioas_id);
	ranges.ioas_id = gone.id = alloc.out_ioas_id;
	alloc.flags = 1;
	ASK("alloc-with-flags", d->iommufd, IOMMU_IOAS_ALLOC, &alloc);
	alloc.flags = 0;
	alloc.size = 8;
	ASK("alloc-too-short", d->iommufd, IOMMU_IOAS_ALLOC, &alloc);
	ASK("alloc-at-nothing", d->iommufd, IOMMU_IOAS_ALLOC, NULL);

	ranges.allowed_iovas = (uintptr_t)found;
	ASK("ranges-without-room", d->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges,
	    "count=%u alignment=%llu", ranges.num_iovas, ranges.out_iova_alignment);
	ranges.num_iovas = 4;
	ASK("ranges", d->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges, "count=%u first=%#llx-%#llx",
	    ranges.num_iovas, found[0].start, found[0].last);
	ranges.__reserved = 1;
	ASK("ranges-reserved", d->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges);
	ranges.__reserved = 0;
	ranges.ioas_id = 99;
	ASK("ranges-of-nothing", d->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges);

	ASK("destroy", d->iommufd, IOMMU_DESTROY, &gone);
	ASK("destroy-again", d->iommufd, IOMMU_DESTROY, &gone);
	gone.id = 0;
	ASK("destroy-0", d->iommufd, IOMMU_DESTROY, &gone);
}

const struct group iommufd_groups[] = {
	{ "ioas", ioas },
	{ 0 },
};
