import subprocess
import sys

from quipu import native


def test_what_was_installed_here_has_kernels():
    assert native.available()
    assert "portable" in native.instruction_sets()


def test_without_kernels_it_imports_and_both_remedies_are_named():
    script = """
import sys
sys.modules["quipu.native._kernels"] = None
from quipu import native
from quipu.engine import native_runner
print(native.available(), native.MISSING)
"""
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.startswith("False ")
    assert "C++ compiler" in said
    assert "pip install 'quipu-llama[torch]'" in said
