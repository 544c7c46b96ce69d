"""Sections: refused names, missing packages, figures after each section."""

import importlib.util
from unittest import mock

from absl.testing import absltest

from ft_tf import errors
from ft_tf.benchmark import jobs, measurements, sections


class SectionsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.setting = measurements.Setting(rounds=2)

  def test_missing_pytorch_is_refused_with_the_install_command(self):
    with (
      mock.patch.object(importlib.util, 'find_spec', return_value=None),
      self.assertRaisesRegex(errors.UsageError, 'pip install torch'),
    ):
      sections.run(self.setting, ['steps'])

  def test_missing_torchvision_is_refused_for_its_networks(self):
    setting = measurements.Setting(
      job=jobs.Job(name='', student='mobilenetv2', image_size=128)
    )
    with (
      mock.patch.object(importlib.util, 'find_spec', {'torch': object()}.get),
      self.assertRaisesRegex(errors.UsageError, 'pip install torchvision`'),
    ):
      sections.run(setting, ['networks'])

  def test_network_without_counterpart_is_refused_before_anything_runs(self):
    setting = measurements.Setting(job=jobs.Job(name='', teacher='vgg13'))
    ran = mock.Mock(return_value={})
    with (
      mock.patch.dict(sections.SECTIONS, {'parts': ran}),
      self.assertRaisesRegex(errors.UsageError, '--teacher=vgg13 has no'),
    ):
      sections.run(setting, ['parts', 'networks'])
    ran.assert_not_called()
    # What is not compared with PyTorch takes any network.
    with mock.patch.dict(sections.SECTIONS, {'parts': ran}):
      sections.run(setting, ['parts'])
    ran.assert_called_once()

  def test_missing_runtimes_are_refused_with_the_install_command(self):
    found = {'onnx': object(), 'tf2onnx': object(), 'onnxruntime': object()}
    with (
      mock.patch.object(importlib.util, 'find_spec', found.get),
      self.assertRaisesRegex(
        errors.UsageError,
        'openvino, nncf.* device is compared.*pip install openvino nncf`',
      ),
    ):
      sections.run(self.setting, ['device'])

  def test_figures_so_far_are_passed_on_after_each_section(self):
    results_so_far = []

    def fails(setting):
      raise errors.TrainingError('died')

    with (
      mock.patch.dict(
        sections.SECTIONS, {'one': lambda s: {'a': 1}, 'two': fails}
      ),
      self.assertRaises(errors.TrainingError),
    ):
      sections.run(
        self.setting,
        ['one', 'two'],
        lambda results: results_so_far.append(dict(results)),
      )
    self.assertLen(results_so_far, 1)
    self.assertEqual(results_so_far[0]['a'], 1)
    self.assertIn('processor', results_so_far[0]['machine'])

  def test_unknown_section_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, '--sections=speed: give'):
      sections.run(self.setting, ['speed'])


if __name__ == '__main__':
  absltest.main()
