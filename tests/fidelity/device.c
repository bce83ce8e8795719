/* Cases about a device: before and after it is bound. Answers: device.toml. */
#include "probe.h"

/* A device that is not bound yet answers nothing but BIND. */
static void unbound(struct descriptors *d)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	int device = d->devices[0];

	ASK("info", device, VFIO_DEVICE_GET_INFO, &info);
	ASK("info-at-nothing", device, VFIO_DEVICE_GET_INFO, NULL);
	ASK("feature-at-nothing", device, VFIO_DEVICE_FEATURE, NULL);
	ASK("reset", device, VFIO_DEVICE_RESET, NULL);
	ASK("unknown", device, _IO(';', 99), NULL);
	bind_device(d, 0);
	ASK("unknown-once-bound", device, _IO(';', 99), NULL);
	ASK("info-once-bound", device, VFIO_DEVICE_GET_INFO, &info, "regions=%u irqs=%u",
	    info.num_regions, info.num_irqs);
}

const struct group device_groups[] = {
	{ "unbound", unbound },
	{ 0 },
};
