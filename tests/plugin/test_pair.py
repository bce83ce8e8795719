"""The pytest plugin as a stranger's suite sees it that takes one pair of builds, or none."""

import pytest

pytest_plugins = ["pytester"]

OPTIONS = ("--qemu-source=debian:trixie", "--qemu-destination=debian:trixie-backports")


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """In a process of its own: the plugin owns a thread and a launcher for each process."""
    return pytester.runpytest_subprocess("-p", "no:hypothesispytest", *args, timeout=120)


@pytest.mark.smoke
def test_a_test_reads_like_the_sentence_that_it_proves(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it_migrates(migration):
            outcome = migration(vm="none", capabilities=["return-path"]).run()
            assert outcome.completed
            assert outcome.source.record.build.spec == "debian:trixie"
            assert outcome.destination.record.build.version.startswith("11.1.")
        """
    )
    run(pytester, *OPTIONS).assert_outcomes(passed=1)


def test_a_failure_says_what_happened_and_where_the_evidence_is(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        def test_it_migrates(migration):
            assert migration(
                vm="none", machine="pc-q35-10.0", destination_machine="pc-q35-9.2"
            ).run().completed
        """
    )
    result = run(pytester, *OPTIONS, f"--qemu-results={pytester.path}/results")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- migration test_it_migrates -*",
            "because *Machine type received is 'pc-q35-10.0' and local is 'pc-q35-9.2'",
            "evidence *results/test_*/test_it_migrates (reproduce.sh repeats it)",
        ]
    )
    assert len(list(pytester.path.glob("results/*/test_it_migrates/outcome.json"))) == 1


def test_the_same_keys_in_an_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        """
        [pytest]
        qemu_source = debian:trixie-backports
        qemu_machine = pc-q35-9.2
        qemu_vm = none
        """
    )
    pytester.makepyfile(
        """
        def test_it_migrates(migration):
            outcome = migration().run()
            assert outcome.completed
            assert outcome.record.plan.machine == "pc-q35-9.2"
            assert outcome.source.record.build == outcome.destination.record.build
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_an_unknown_build_is_one_clear_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(migration): migration().run()")
    result = run(pytester, "--qemu-source=no-such-build")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *InputError: *no-such-build*"])


def test_a_suite_without_qemu_pays_nothing(pytester: pytest.Pytester) -> None:
    """The plugin loads in every pytest of its environment: it must not import its own library."""
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_imported():
            loaded = {m.split(".")[1] for m in sys.modules if m.startswith("qmptests.")}
            assert loaded <= {"plugin", "fixtures", "printable"}
            assert not {"msgspec", "rich", "click", "qemu", "asyncio"} & sys.modules.keys()
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_parallel_workers_have_a_launcher_each(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it_migrates(migration, number):
            assert migration(vm="none").run().completed
        """
    )
    run(pytester, *OPTIONS, "-n2").assert_outcomes(passed=4)
