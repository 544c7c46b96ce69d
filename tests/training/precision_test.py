"""Which precision a machine gets, and that it is said."""

from unittest import mock

from absl.testing import absltest, parameterized

from ft_tf.training import precision
from tests import fixtures


class PrecisionTest(parameterized.TestCase):
  @parameterized.parameters(
    ({'avx2', 'avx512_bf16'}, 'mixed_bfloat16', 'avx512_bf16'),
    ({'amx_bf16', 'avx512_bf16'}, 'mixed_bfloat16', 'amx_bf16'),
    ({'asimd', 'bf16'}, 'mixed_bfloat16', 'bf16'),
    ({'avx2', 'avx512f'}, 'float32', 'no native bfloat16'),
    (set(), 'float32', 'no native bfloat16'),
  )
  def test_cpu_computes_in_what_it_has_natively(self, flags, policy, reason):
    with mock.patch.object(precision, '_cpu_flags', return_value=flags):
      found, why = precision.automatic()
    self.assertEqual(found, policy)
    self.assertIn(reason, why)

  @parameterized.parameters(
    ([(8, 0)], 'mixed_bfloat16'),
    ([(9, 0), (7, 5)], 'mixed_float16'),
    ([(7, 0)], 'mixed_float16'),
    ([(6, 1)], 'float32'),
  )
  def test_gpus_compute_in_what_the_oldest_has(self, capabilities, policy):
    self.assertEqual(precision._of_gpus(capabilities)[0], policy)

  def test_auto_is_settled_and_a_choice_is_kept(self):
    settled = precision.settle(fixtures.recipe(precision='auto'))
    self.assertEqual(settled.precision, precision.automatic()[0])
    given = fixtures.recipe(precision='mixed_float16')
    self.assertIs(precision.settle(given), given)

  def test_reason_is_given_where_the_precision_is_the_machines(self):
    best, reason = precision.automatic()
    for name, line in (
      (best, f'precision: {best} ({reason})'),
      ('mixed_float16', 'precision: mixed_float16'),
    ):
      described = precision.describe(fixtures.recipe(precision=name))
      self.assertEqual(described, line)

  def test_this_machines_flags_are_read(self):
    # Linux alone is supported; every CPU there has some.
    self.assertNotEmpty(precision._cpu_flags())


if __name__ == '__main__':
  absltest.main()
