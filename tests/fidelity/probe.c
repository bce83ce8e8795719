/* Issue VFIO's and iommufd's calls, and print what each is answered.
 *
 *     probe --iommufd=PATH|NUMBER [--device=PATH|NUMBER]... GROUP
 *     probe --list
 *
 * A path (/dev/iommu, /dev/vfio/devices/vfio0) is opened; a number is a descriptor that was
 * inherited, as QEMU's "fd=" has it. One group in a process: a device is bound until it is closed.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <stdarg.h>

static const char *group_name;

void answer(const char *name, long result, const char *fields, ...)
{
	int number = errno;
	const char *word = result < 0 ? strerrorname_np(number) : "-";
	va_list arguments;

	printf("%s/%s %ld %s", group_name, name, result, word ? word : "unknown");
	if (*fields)
		putchar(' ');
	va_start(arguments, fields);
	vprintf(fields, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
}

void need(int is_there, const char *what)
{
	if (is_there)
		return;
	fprintf(stderr, "probe: %s: %s: %s\n", group_name ? group_name : "start", what,
		strerror(errno));
	exit(3);
}

void *memory(size_t length, int protection)
{
	void *there = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	need(there != MAP_FAILED, "mmap");
	return there;
}

uint32_t bind_device(struct descriptors *d, int number)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind), .iommufd = d->iommufd };

	errno = ENODEV;
	need(number < d->count, "give more devices: --device");
	need(ioctl(d->devices[number], VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0, "bind");
	return bind.out_devid;
}

uint32_t new_ioas(int iommufd)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	need(ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc) == 0, "allocate an address space");
	return alloc.out_ioas_id;
}

uint32_t attach(int device, uint32_t pt_id)
{
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = pt_id };

	need(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) == 0, "attach");
	return attach.pt_id;
}

void destroy(int iommufd, uint32_t id)
{
	struct iommu_destroy destroy = { .size = sizeof(destroy), .id = id };

	need(ioctl(iommufd, IOMMU_DESTROY, &destroy) == 0, "destroy");
}

static int descriptor(const char *text)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (*text && !*end)
		return (int)number;
	number = open(text, O_RDWR | O_CLOEXEC);
	need(number >= 0, text);
	return (int)number;
}

static const struct group *const tables[] = {
	iommufd_groups, device_groups, interrupt_groups, region_groups, feature_groups,
};

static const struct group *find(const char *name)
{
	for (size_t at = 0; at < sizeof(tables) / sizeof(*tables); at++)
		for (const struct group *group = tables[at]; group->name; group++)
			if (!name)
				puts(group->name);
			else if (!strcmp(group->name, name))
				return group;
	return NULL;
}

int main(int count, char **words)
{
	struct descriptors d = { .iommufd = -1 };
	const struct group *group;
	int at;

	for (at = 1; at < count && !strncmp(words[at], "--", 2); at++) {
		if (!strcmp(words[at], "--list"))
			return find(NULL) != NULL;
		if (!strncmp(words[at], "--iommufd=", 10)) {
			d.iommufd = descriptor(words[at] + 10);
		} else if (!strncmp(words[at], "--device=", 9) && d.count < MOST_DEVICES) {
			d.devices[d.count++] = descriptor(words[at] + 9);
		} else {
			break;
		}
	}
	group = at == count - 1 ? find(words[at]) : NULL;
	if (!group || d.iommufd < 0) {
		fputs("usage: probe --iommufd=PATH|NUMBER [--device=PATH|NUMBER]... GROUP\n"
		      "       probe --list\n", stderr);
		return 2;
	}
	group_name = group->name;
	group->run(&d);
	return 0;
}
