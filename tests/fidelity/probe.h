/* What the probe's cases share. A group is a function that makes calls, each a case with a name.
 *
 * A case is a line on standard output: GROUP/CASE RESULT ERRNO FIELD=VALUE...
 * ERRNO is "-" for a call that succeeds. Nothing here knows who answers: a kernel or an emulation.
 */
#ifndef PROBE_H
#define PROBE_H

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/iommufd.h>
#include <linux/vfio.h>

#define PAGE 4096UL
#define MOST_DEVICES 8

/* The descriptors that a group begins with. `devices` are not bound. */
struct descriptors {
	int iommufd;
	int devices[MOST_DEVICES];
	int count;
};

struct group {
	const char *name;
	void (*run)(struct descriptors *);
};

/* Each file of cases has a table of its groups; a name that is NULL ends it. */
extern const struct group iommufd_groups[];
extern const struct group device_groups[];
extern const struct group interrupt_groups[];
extern const struct group region_groups[];
extern const struct group feature_groups[];

/* Print a case's line: `result` is what a call returned, errno what it left. */
void answer(const char *name, long result, const char *fields, ...)
	__attribute__((format(printf, 3, 4)));

/* An ioctl as a case: ASK("name", fd, REQUEST, &record, "field=%d", record.field). */
#define ASK(name, fd, request, argument, ...)                                                      \
	do {                                                                                       \
		errno = 0;                                                                         \
		long outcome = ioctl(fd, request, argument);                                         \
		answer(name, outcome, "" __VA_ARGS__);                                               \
	} while (0)

/* End the probe with a message on standard error: what a group needs can't be had. */
void need(int is_there, const char *what) __attribute__((noinline));

/* Anonymous memory, or end. */
void *memory(size_t length, int protection);

/* Bind a device to the iommufd: its id there, or end. */
uint32_t bind_device(struct descriptors *, int number);

/* A new address space's id, or end. */
uint32_t new_ioas(int iommufd);

/* Attach a device to an address space or a page table: the page table's id, or end. */
uint32_t attach(int device, uint32_t pt_id);

/* IOMMU_DESTROY, or end. */
void destroy(int iommufd, uint32_t id);

#endif
