"""Messages name arguments where there are no flags."""

from absl.testing import absltest

from ft_tf import errors, python_terms


class InMessagesTest(absltest.TestCase):
  def test_flags_in_messages_become_arguments(self):
    for text, wanted in {
      'Lambda: give --allow_unsafe_model if you trust': 'Lambda: call '
      'keras.config.enable_unsafe_deserialization() if you trust',
      'vgg13: give a wrn, or --image_size=32': 'vgg13: give a wrn, or images '
      'of 32x32',
      'give --image_size=96x160 or so': 'give images of 96x160 or so',
      '--jit=on: give --batch_size=8 -- or more': 'jit=on: give batch_size=8 '
      '-- or more',
      'give the --dataset it was trained on': 'give the train and test it was '
      'trained on',
      'x-- y --1 a--b': 'x-- y --1 a--b',
    }.items():
      with self.subTest(text), self.assertRaises(errors.UsageError) as error:
        with python_terms.in_messages():
          raise errors.UsageError(text)
      self.assertEqual(str(error.exception), wanted)


if __name__ == '__main__':
  absltest.main()
