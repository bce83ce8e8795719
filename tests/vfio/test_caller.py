"""An answer is written into the memory of the program that made the call, and of no other one."""

import os

import pytest

from tests.vfio import supervised

#: A process of a given number, which has to be free, as only a privileged one can ask for it.
CHOOSE = "/proc/sys/kernel/ns_last_pid"

ALLOCATE = """
argument = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
def allocate():
    argument[:12] = (12).to_bytes(4, "little") + bytes(8)
    said = ask(descriptors.IOMMUFD, Iommu.IOAS_ALLOC, argument)
    return said or -int.from_bytes(argument[8:12], "little")
"""

REUSE = (
    ALLOCATE
    + f"""
def thread():
    seen.append((threading.get_native_id(), allocate()))

for attempt in range(50):
    seen = []
    worker = threading.Thread(target=thread)
    worker.start()
    worker.join()
    number, first = seen[0]
    argument[:12] = (12).to_bytes(4, "little") + b"untouche"
    while os.path.exists(f"/proc/{{number}}"):
        time.sleep(0.001)  # the kernel lets go of a thread a little after the join
    with open({CHOOSE!r}, "w") as file:
        file.write(str(number - 1))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(allocate()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    second = json.loads(os.read(read, 100))
    os.close(read), os.close(write)
    if child == number:
        say(first=first, second=second, parent=bytes(argument[4:12]).decode())
        break
else:
    say(busy=True)
"""
)


@pytest.mark.skipif(
    not os.access(CHOOSE, os.W_OK), reason=f"only root can choose a process's number ({CHOOSE})"
)
def test_a_threads_number_that_is_used_again_is_not_the_same_caller() -> None:
    done = supervised.run(REUSE)
    assert (done.status, done.problems) == (0, []), done.stderr
    if "busy" in done.said:
        pytest.skip("other processes took the number each time")
    assert done.said["first"] < 0 > done.said["second"], "both got the id of an address space"
    assert done.said["first"] != done.said["second"]
    assert done.said["parent"] == "untouche"


FORKS = (
    ALLOCATE
    + """
for number in range(200):
    child = os.fork()
    if child == 0:
        os._exit(int(allocate() >= 0))
    assert os.waitpid(child, 0)[1] == 0, number
supervisor = os.getppid()
say(descriptors=len(os.listdir(f"/proc/{supervisor}/fd")))
"""
)


def test_no_descriptor_stays_open_for_a_process_that_called() -> None:
    done = supervised.run(FORKS)
    assert (done.status, done.problems) == (0, []), done.stderr
    assert done.said["descriptors"] < 30
