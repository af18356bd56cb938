"""The checks of tools/ find what they are for, on small trees made to break their rules."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
FAMILY = 'FAMILY(zebra, ("ZebraForCausalLM"), ("zebra", "zebra-moe"));\n'


def run(tool, *arguments, **env):
    done = subprocess.run([sys.executable, TOOLS / tool, *map(str, arguments)], capture_output=True, text=True, check=False,
                          env=os.environ | env)
    return done.returncode, done.stdout


def tree(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


GOOD = {
    "base/error.h": "#include <string>\n#include <spdlog/spdlog.h>\n",
    "tensor/tensor.h": '#include "base/error.h"\n',
    "backend/cpu/isa/dot.cc": '#include "tensor/tensor.h"\n#include <nlohmann/json.hpp>\n',
    "apps/main.cc": '#include "backend/cpu/cpu.h"\n#include <CLI/CLI.hpp>\n',
    "backend/cpu/cpu.h": "",
    "backend/ref/ref.h": "",
}


def test_layers_accepts_a_good_tree(tmp_path):
    assert run("layers.py", tree(tmp_path, GOOD)) == (0, "layers: 6 files, 0 problems\n")


@pytest.mark.parametrize(
    "path, text, message",
    [
        ("base/x.h", '#include "tensor/tensor.h"\n', "src/base/x.h:1: base may not include tensor (tensor/tensor.h)"),
        ("backend/cpu/x.cc", '\n#include "backend/ref/ref.h"\n', "src/backend/cpu/x.cc:2: backend/cpu may not include backend/ref"),
        ("backend/ref/x.cc", '#  include <backend/cpu/cpu.h>\n', "backend/ref may not include backend/cpu"),
        ("tensor/x.cc", '#include "tensor.h"\n', '"tensor.h" is no file of src/'),
        ("tensor/x.cc", '#include "../base/error.h"\n', '"../base/error.h" is no file of src/'),
        ("formats/x.cc", "#include <curl/curl.h>\n", "formats may not include curl/curl.h; only store may"),
        ("text/x.cc", "#include <spdlog/spdlog.h>\n", "only base may"),
        ("gadgets/x.cc", "", "gadgets/x.cc: belongs to no layer"),
        ("x.cc", "", "x.cc: belongs to no layer"),
    ],
)
def test_layers_finds(tmp_path, path, text, message):
    tree(tmp_path, GOOD)
    code, output = run("layers.py", tree(tmp_path, {path: text}))
    assert code == 1
    assert message in output


def test_layers_finds_cycles(tmp_path):
    files = {"base/a.h": '#include "base/b.h"\n', "base/b.h": '#include "base/c.h"\n', "base/c.h": '#include "base/b.h"\n'}
    code, output = run("layers.py", tree(tmp_path, files))
    assert code == 1
    assert "cycle of includes: base/b.h -> base/c.h -> base/b.h" in output


@pytest.mark.parametrize(
    "path, text",
    [
        ("model/spec.cc", 'if (arch == "zebra") {}\n'),
        ("model/spec.cc", 'auto s = fmt::format("{}", "zebra.block_count");\n'),
        ("engine/x.cc", 'const char* kName = "ZebraForCausalLM";\n'),
        ("engine/x.cc", "int zebra = 1;\n"),
        ("text/template.cc", 'auto s = R"(a zebra-moe b)";\n'),
        ("backend/cpu/isa/x.inc", '"\\"zebra"\n'),
    ],
)
def test_names_finds(tmp_path, path, text):
    tree(tmp_path, {"model/families/zebra.cc": FAMILY, path: text})
    code, output = run("check_names.py", tmp_path)
    assert code == 1
    assert f"src/{path}:1:" in output


def test_names_leaves_the_places_made_for_them(tmp_path):
    files = {
        "model/families/zebra.cc": FAMILY,
        "model/names.cc": '"zebra"\n',
        "text/pretokenizer.cc": '"zebra"\n',
        "model/spec.cc": '// as zebra does\n/* "zebra" */ ModelSpec s = zebra_like(m); const char* zebras = "zebras don\'t";\n',
        "apps/x.cc": '#include "model/zebra"\n',
    }
    assert run("check_names.py", tree(tmp_path, files)) == (0, "names: 3 family names, 0 problems\n")


def test_names_notices_that_it_knows_no_family(tmp_path):
    assert run("check_names.py", tree(tmp_path, {"model/families/zebra.cc": "REGISTER(zebra);\n"}))[0] == 1


def gtest_file(folder, **tests):
    status = {"passed": ("RUN", "COMPLETED"), "skipped": ("RUN", "SKIPPED"), "disabled": ("NOTRUN", "SUPPRESSED")}
    rows = [{"name": name, "status": status[how][0], "result": status[how][1]} for name, how in tests.items()]
    file = folder / "x_test.json"
    file.write_text(json.dumps({"testsuites": [{"name": "Suite", "testsuite": rows}]}))
    return file


def test_skips_names_every_unlisted_skip(tmp_path):
    code, output = run("check_skips.py", gtest_file(tmp_path, A="passed", B="skipped", C="disabled"))
    assert code == 1
    assert [line.split(":")[0] for line in output.splitlines()] == ["Suite.B", "Suite.C"]
    assert run("check_skips.py", gtest_file(tmp_path, A="passed")) == (0, "")


def test_skips_reads_junit(tmp_path):
    file = tmp_path / "pytest.xml"
    file.write_text('<testsuites><testsuite><testcase classname="t" name="a"/>'
                    '<testcase classname="t" name="b"><skipped/></testcase></testsuite></testsuites>')
    assert run("check_skips.py", file) == (1, "t::b: skipped, and tests/skips.txt does not name it\n")


def test_mutate_needs_a_test_that_notices(tmp_path):
    """A build whose only test program notices nothing: every switch of src/ survives, and that is a failure."""
    program = tmp_path / "tests" / "blind_test"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    sys.path.insert(0, str(TOOLS))
    import mutate
    assert mutate.try_switch(tmp_path, "any") is None
    program.write_text('#!/bin/sh\n[ "$BAIZE_MUTATE" != any ] && exit 0\necho "[  FAILED  ] Suite.Test (0 ms)"\nexit 1\n')
    assert mutate.try_switch(tmp_path, "any") == "Suite.Test"
    assert mutate.try_switch(tmp_path, "other") is None
