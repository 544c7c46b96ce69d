"""What the page is told of an export folder, and what it refuses."""

import json
import os

from absl.testing import absltest

from ft_tf import errors
from ft_tf.browser import exports
from tests.browser import small_exports

_FILE = 'student_int8.tflite'


class ExportsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.run_folder = self.create_tempdir().full_path
    self.folder = os.path.join(self.run_folder, 'export')
    contents = {name: name.encode() for name in small_exports.FILES}
    small_exports.write(self.folder, contents)

  def _change(self, change):
    """Changes export.json by a function of its value."""
    path = os.path.join(self.folder, 'export.json')
    with open(path) as file:
      figures = json.load(file)
    change(figures)
    with open(path, 'w') as file:
      json.dump(figures, file)

  def _check_refused(self, reason):
    with self.assertRaisesRegex(errors.UsageError, reason):
      exports.read(self.folder)

  def test_files_and_figures(self):
    export = exports.read(self.folder)
    self.assertEqual(export.files[_FILE], _FILE.encode())
    about = export.about
    self.assertEqual(about['labels'], ['left', 'middle', 'right'])
    self.assertEqual(about['preprocessing']['sizes'], [[8, 8]])
    self.assertCountEqual(
      [each['name'] for each in about['files']], small_exports.FILES
    )
    self.assertIsNone(about['teacher'])

  def test_teacher_beside(self):
    content = b'teacher'
    small_exports.write(
      f'{self.run_folder}/teacher/export', {'student_fp32.tflite': content}
    )
    teacher = exports.read(self.folder).about['teacher']
    self.assertEqual(teacher, {'bytes': len(content), 'accuracy': 0.75})

  def test_folder_that_export_makes(self):
    self.folder = os.path.join(self.run_folder, 'real')
    small_exports.write_network(self.folder, 'resnet8x0.25', (8, 8, 1), 'crop')
    export = exports.read(self.folder)
    self.assertCountEqual(export.files, small_exports.FILES)
    (int8,) = (each for each in export.about['files'] if each['name'] == _FILE)
    self.assertEqual(int8['output']['dtype'], 'uint8')
    self.assertGreater(int8['output']['scale'], 0)
    self.assertEqual(export.about['preprocessing']['central_fraction'], 0.875)

  def test_files_that_litert_js_lacks_are_left_out(self):
    def change(figures):
      figures[_FILE]['output']['dtype'] = 'int8'
      figures['student_fp16.tflite']['input']['shape'][0] = -1
      figures['student.onnx'] = {}
      figures['saved_model'] = {}

    self._change(change)
    self.assertEqual(
      [*exports.read(self.folder).files], [small_exports.FILES[0]]
    )

  def test_no_file_that_litert_js_takes(self):
    def change(figures):
      for entry in figures.values():
        entry['input']['dtype'] = 'int8'

    self._change(change)
    self._check_refused('no .tflite file that LiteRT.js takes')

  def test_older_layout(self):
    self._change(lambda figures: figures[_FILE].pop('input'))
    self._check_refused('older versions.*ft-tf export')

  def test_damaged_figures(self):
    path = os.path.join(self.folder, 'export.json')
    for content in (b'{"a": ', b'\xff', b'[]', b'null'):
      with open(path, 'wb') as file:
        file.write(content)
      self._check_refused('export.json')

  def test_entries_that_do_not_fit(self):
    cases = {
      "lacks 'accuracy'": lambda entry: entry.pop('accuracy'),
      "lacks 'scale'": lambda entry: entry['output'].pop('scale'),
      'takes images of shape': lambda entry: entry['input'].update(
        shape=[1, 9, 8, 1]
      ),
      'has 3 names, .* gives .4. logits': lambda entry: entry['output'].update(
        shape=[1, 4]
      ),
      'is not the file': lambda entry: entry.update(bytes=3),
    }
    for reason, change in cases.items():
      with self.subTest(reason):
        self.folder = os.path.join(self.create_tempdir().full_path, 'export')
        small_exports.write(self.folder, {_FILE: b'content'})
        self._change(lambda figures, change=change: change(figures[_FILE]))
        self._check_refused(reason)

  def test_missing_files(self):
    os.remove(os.path.join(self.folder, _FILE))
    self._check_refused('cannot read .*int8.tflite')
    os.remove(os.path.join(self.folder, 'labels.txt'))
    self._check_refused('cannot read .*labels.txt')
    os.remove(os.path.join(self.folder, 'export.json'))
    self._check_refused('no export.json: give the folder export/')
    self.folder = '/no/such'
    self._check_refused('no export.json')


if __name__ == '__main__':
  absltest.main()
