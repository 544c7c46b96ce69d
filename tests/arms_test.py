"""The arms of a comparison: every method at every point of a sweep."""

from absl.testing import absltest, parameterized

from ft_tf import arms, catalogue, definitions, errors, recipes


class ArmsTest(parameterized.TestCase):
  def test_every_method_is_there_at_every_point_of_the_sweep(self):
    found = arms.make(
      ['scratch', 'ft'], {'rate': [0.5, 1.0], 'student_epochs': [1, 2]}
    )
    self.assertEqual(
      [arm.name for arm in found],
      [
        'scratch,student_epochs=1',
        'scratch,student_epochs=2',
        'ft,rate=0.5,student_epochs=1',
        'ft,rate=0.5,student_epochs=2',
        'ft,rate=1.0,student_epochs=1',
        'ft,rate=1.0,student_epochs=2',
      ],
    )
    self.assertEqual(
      found[3].changes, {'method': 'ft', 'rate': 0.5, 'student_epochs': 2}
    )

  def test_method_that_a_flag_says_nothing_to_is_there_once(self):
    found = arms.make(
      ['scratch', 'ft', 'kd', 'at+kd'],
      {'beta': [1.0, 2.0], 'temperature': [3.0, 4.0]},
    )
    self.assertEqual(
      [arm.name for arm in found],
      [
        'scratch',
        'ft,beta=1.0',
        'ft,beta=2.0',
        'kd,temperature=3.0',
        'kd,temperature=4.0',
        'at+kd,temperature=3.0',
        'at+kd,temperature=4.0',
      ],
    )

  @parameterized.parameters(
    ('teacher_epochs', 'share it; give --teacher_epochs'),
    ('teacher', 'share it'),
    ('image_size', 'share it'),
    ('seed', 'give --seeds'),
    ('method', 'give --methods'),
  )
  def test_sweep_of_what_all_students_share_is_refused(self, flag, message):
    with self.assertRaisesRegex(errors.UsageError, message):
      arms.make(['scratch'], {flag: [1, 2]})

  def test_methods_of_every_kind_are_explained_with_their_source(self):
    about = arms.explain(
      ['scratch', 'ft,beta=20.0', 'ft+kd', 'keras_distiller', 'ft_mmrazor']
    )
    self.assertEqual(
      list(about), ['scratch', 'ft', 'kd', 'keras_distiller', 'ft_mmrazor']
    )
    self.assertIn('NeurIPS 2018', about['ft'])
    self.assertIn('Hinton', about['kd'])

  def test_no_method_or_variant_lacks_an_explanation(self):
    names = {*definitions.registered(), *recipes.INCUMBENTS}
    names |= {*catalogue.VARIANTS}
    self.assertEqual(names, arms.explain(sorted(names)).keys())

  def test_variant_brings_its_flags(self):
    (arm,) = arms.make(['ft_repdistiller'], {})
    self.assertEqual(arm.name, 'ft_repdistiller')
    self.assertEqual(arm.changes, catalogue.VARIANTS['ft_repdistiller'])

  def test_linear_head_has_its_own_numbers_in_every_sweep(self):
    found = arms.make(
      ['linear_head', 'ft'], {'student_learning_rate': [0.1, 0.01]}
    )
    self.assertEqual(
      [arm.name for arm in found],
      [
        'linear_head',
        'ft,student_learning_rate=0.1',
        'ft,student_learning_rate=0.01',
      ],
    )
    self.assertEqual(found[0].changes, catalogue.linear_head())
    self.assertIn('linear_head', arms.explain(['linear_head']))

  @parameterized.parameters(
    (['nope'], '--method=nope'),
    (['ft', 'kd', 'ft'], '--methods has ft twice'),
  )
  def test_methods_that_are_none_are_refused(self, methods, message):
    with self.assertRaisesRegex(errors.UsageError, message):
      arms.make(methods, {})


if __name__ == '__main__':
  absltest.main()
