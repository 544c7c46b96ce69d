"""The processor on which latencies were measured, which they depend on."""

import os
import platform
import subprocess
from typing import Any

# What LiteRT's kernels differ by, as Linux calls it in /proc/cpuinfo: those of
# x86, then those of Arm.
_FEATURES = {
  'avx2': 'avx2',
  'avx_vnni': 'avx_vnni',
  'avx512f': 'avx512f',
  'avx512_vnni': 'avx512_vnni',
  'avx512_bf16': 'avx512_bf16',
  'amx_bf16': 'amx_bf16',
  'amx_int8': 'amx_int8',
  'asimd': 'neon',
  'asimddp': 'dotprod',
  'i8mm': 'i8mm',
  'sve': 'sve',
  'sme': 'sme',
}
# The same as macOS calls it.
_SYSCTL = {
  'hw.optional.avx2_0': 'avx2',
  'hw.optional.avx512f': 'avx512f',
  'hw.optional.neon': 'neon',
  'hw.optional.arm.FEAT_DotProd': 'dotprod',
  'hw.optional.arm.FEAT_I8MM': 'i8mm',
  'hw.optional.arm.FEAT_SME': 'sme',
}
_BRAND = 'machdep.cpu.brand_string'
_CPUINFO = '/proc/cpuinfo'


def describe() -> dict[str, Any]:
  """Returns the processor of this machine.

  Returns:
    `name`; `cores` that this process may use; `features`, those that speed up
    networks, such as 'avx512_vnni' or 'dotprod', None where the system does
    not tell.
  """
  name, features = _from_cpuinfo() or _from_sysctl() or ('', None)
  return {
    'name': name or platform.processor() or platform.machine(),
    'cores': available_cores(),
    'features': features,
  }


def available_cores() -> int:
  """Returns how many cores this process may run on."""
  try:
    return len(os.sched_getaffinity(0))
  except AttributeError:  # Only Linux has it.
    return os.cpu_count() or 1


def _from_cpuinfo() -> tuple[str, list[str]] | None:
  """Returns name and features as Linux has them; None where it is another."""
  name, flags = '', set()
  try:
    with open(_CPUINFO, encoding='utf-8', errors='replace') as file:
      for line in file:
        key, _, value = line.partition(':')
        # Arm kernels for phones write `Hardware` in place of a model name.
        if key.strip() in ('model name', 'Hardware'):
          name = name or value.strip()
        elif key.strip() in ('flags', 'Features'):
          flags |= set(value.split())
  except OSError:
    return None
  return name, [text for flag, text in _FEATURES.items() if flag in flags]


def _from_sysctl() -> tuple[str, list[str]] | None:
  """Returns name and features as macOS has them; None where it is another."""
  try:
    printed = subprocess.run(
      ['sysctl', '-i', _BRAND, *_SYSCTL],
      capture_output=True,
      text=True,
      check=True,
    ).stdout
  except (OSError, subprocess.CalledProcessError):
    return None
  values = dict(
    line.split(': ', 1) for line in printed.splitlines() if ': ' in line
  )
  features = [text for key, text in _SYSCTL.items() if values.get(key) == '1']
  return values.get(_BRAND, ''), features
