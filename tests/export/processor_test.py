"""The processor's features come from the system, whichever that is."""

import subprocess
from unittest import mock

from absl.testing import absltest

from ft_tf.export import processor

_ARM = """processor\t: 0
Features\t: fp asimd asimddp i8mm sve
CPU part\t: 0xd40

Hardware\t: Some phone
"""


class ProcessorTest(absltest.TestCase):
  def _cpuinfo(self, text):
    path = self.create_tempfile(content=text).full_path
    return mock.patch.object(processor, '_CPUINFO', path)

  def test_this_machine_has_a_name_and_cores(self):
    found = processor.describe()
    self.assertNotEmpty(found['name'])
    self.assertGreaterEqual(found['cores'], 1)

  def test_features_of_x86_keep_the_names_of_linux(self):
    text = 'model name\t: A chip\nflags\t\t: fpu avx2 avx512_vnni amx_int8\n'
    with self._cpuinfo(text):
      found = processor.describe()
    self.assertEqual(found['name'], 'A chip')
    self.assertEqual(found['features'], ['avx2', 'avx512_vnni', 'amx_int8'])

  def test_features_of_arm_have_the_names_of_its_manuals(self):
    with self._cpuinfo(_ARM):
      found = processor.describe()
    self.assertEqual(found['name'], 'Some phone')
    self.assertEqual(found['features'], ['neon', 'dotprod', 'i8mm', 'sve'])

  def test_macos_is_asked_where_there_is_no_cpuinfo(self):
    printed = (
      'machdep.cpu.brand_string: Apple M4\n'
      'hw.optional.neon: 1\n'
      'hw.optional.arm.FEAT_DotProd: 1\n'
      'hw.optional.arm.FEAT_SME: 0\n'
    )
    done = subprocess.CompletedProcess([], 0, stdout=printed)
    with (
      mock.patch.object(processor, '_CPUINFO', '/no/such/file'),
      mock.patch.object(subprocess, 'run', return_value=done),
    ):
      found = processor.describe()
    self.assertEqual(found['name'], 'Apple M4')
    self.assertEqual(found['features'], ['neon', 'dotprod'])

  def test_features_are_unknown_where_no_system_tells(self):
    with (
      mock.patch.object(processor, '_CPUINFO', '/no/such/file'),
      mock.patch.object(subprocess, 'run', side_effect=FileNotFoundError),
    ):
      found = processor.describe()
    self.assertIsNone(found['features'])
    self.assertNotEmpty(found['name'])


if __name__ == '__main__':
  absltest.main()
