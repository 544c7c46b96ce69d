"""What a report shows of the predictions, with few and many classes."""

from absl.testing import absltest

from ft_tf.report import predictions_section, summary
from tests.report import compression_folder


class SectionTest(compression_folder.TestCase):
  def _section(self, method='ft'):
    return predictions_section.make_section(
      self.root, summary.read_runs(self.root), method
    )

  def test_folder_of_an_older_version_has_no_section(self):
    self.assertIsNone(self._section())

  def test_few_classes_have_a_matrix_and_no_list(self):
    self.write_predictions(['cat', 'dog'])
    section = self._section()
    self.assertEqual(
      section['matrix'],
      [('cat', [(6, 0.87), (2, 0.5)]), ('dog', [(2, 0.5), (6, 0.87)])],
    )
    self.assertEmpty(section['pairs'])
    self.assertEqual(
      section['by_class_header'],
      ['class', 'number', 'images', 'teacher %', 'student %', 'int8 file %'],
    )
    self.assertEqual(
      section['by_class'][0], ['cat', '0', '8', '87.5', '75.0', '62.5']
    )
    self.assertEqual(
      section['balanced'], 'teacher 87.5 %, student 75.0 %, int8 file 62.5 %'
    )

  def test_many_classes_have_a_plot_and_a_list_of_mistakes(self):
    names = [f'class {i}' for i in range(100)]
    self.write_predictions(names)
    section = self._section()
    self.assertIsNone(section['matrix'])
    self.assertLen(section['pairs'], 20)
    self.assertEqual(section['pairs'][0], ['class 0', 'class 1', '2', '25.0'])
    self.assertLen(section['by_class'], 100)
    self.assertIn('Accuracy by class (the 20 lowest)', section['plots'])
    self.assertTrue(
      section['plots']['Confusion matrix of the exported student']
    )

  def test_means_are_over_seeds_and_baseline_stands_beside(self):
    self.write_predictions(['cat', 'dog'])
    for name, method, mistakes in (
      ('ft-1', 'ft', 4),
      ('scratch-0', 'scratch', 4),
      ('scratch-1', 'scratch', 8),
    ):
      path = f'comparison/{name}'
      self.write_run(path, method, int(name[-1]), 0.8, 5_000, 55.5)
      self.write_json(
        f'{path}/predictions.json',
        compression_folder.predictions(['cat', 'dog'], 8, mistakes),
      )
    row = dict(
      zip(
        self._section()['by_class_header'],
        self._section()['by_class'][0],
        strict=True,
      )
    )
    self.assertEqual(row['student %'], '62.5')  # 6 and 4 of 8
    self.assertEqual(row['baseline %'], '25.0')  # 4 and 0 of 8

  def test_teacher_without_predictions_is_left_out(self):
    self.write_predictions(['cat', 'dog'])
    self.write_json('teacher/predictions.json', None)
    self.assertNotIn('teacher %', self._section()['by_class_header'])


if __name__ == '__main__':
  absltest.main()
