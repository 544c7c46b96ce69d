"""The tables of a model card by class, of few classes and of many."""

from absl.testing import absltest

from ft_tf.report import card_classes, predictions
from tests.report import compression_folder


def _predictions(count, mistakes=1):
  classes = [f'c{i}' for i in range(count)]
  return predictions.parse(compression_folder.predictions(classes, 8, mistakes))


class ByClassTest(absltest.TestCase):
  def test_few_classes_are_in_their_order(self):
    text = '\n'.join(card_classes.by_class(_predictions(3), _predictions(3, 2)))
    self.assertIn('| class | test images | Keras % | int8 file % |', text)
    self.assertIn('| c0    |           8 |    87.5 |        75.0 |', text)
    self.assertLess(text.index('c0'), text.index('c2'))
    self.assertEndsWith(
      text, '(balanced accuracy): Keras 87.5 %, int8 file 75.0 %.'
    )

  def test_without_an_int8_file_there_is_no_such_column(self):
    text = '\n'.join(card_classes.by_class(_predictions(3), None))
    self.assertNotIn('int8', text)
    self.assertIn('| c2    |           8 |    87.5 |', text)

  def test_of_many_classes_the_lowest_come_first(self):
    values = compression_folder.predictions([f'c{i}' for i in range(30)])
    values['confusion'] = [[i, i, 8] for i in range(29) if i != 17] + [
      [17, 3, 8]
    ]
    text = '\n'.join(card_classes.by_class(predictions.parse(values), None))
    lines = text.splitlines()
    self.assertEqual(lines[0], 'The 20 least accurate of 30 classes:')
    self.assertStartsWith(lines[4], '| c17 ')
    self.assertLen(lines, 26)
    self.assertEndsWith(lines[-1], ': Keras 96.6 %.')  # 28 of 29
    self.assertNotIn('c29', text)  # It has no images.


class MistakesTest(absltest.TestCase):
  def test_matrix_up_to_twenty_classes(self):
    text = '\n'.join(card_classes.mistakes(_predictions(20)))
    self.assertIn('Confusion matrix', text)
    self.assertLen(text.splitlines(), 24)

  def test_pairs_of_more_classes(self):
    text = '\n'.join(card_classes.mistakes(_predictions(21)))
    self.assertIn('Most frequent mistakes', text)
    self.assertIn('| c0    |        c1 |      1 |', text)
    self.assertLen(text.splitlines(), 24)


if __name__ == '__main__':
  absltest.main()
