"""The HTML report: self-contained, with the results of the run folders."""

import html
import os
import re

from absl.testing import absltest, parameterized

from ft_tf import run_dir
from ft_tf.report import page, summary
from tests.report import compression_folder, markup

_EVIL = ('"><script>alert(1)</script>&<b>', '"><img src=x onerror=alert(2)>')


class WriteTest(compression_folder.TestCase):
  def _visible_text(self):
    """Returns the text that a browser shows, on one line."""
    text = re.sub(
      r'<(style|svg|script)\b.*?</\1>', ' ', self.page(), flags=re.S
    )
    return ' '.join(html.unescape(re.sub(r'<[^>]*>', ' ', text)).split())

  def test_page_leaves_no_temporary_files(self):
    path = page.write(self.root)
    self.assertEqual(path, os.path.join(self.root.path, 'report.html'))
    hidden = [n for n in os.listdir(self.root.path) if n.startswith('.')]
    self.assertEmpty(hidden)

  def test_page_loads_nothing_and_repeats_no_id(self):
    self.write_predictions(['cat', 'dog'])
    self.write_run('comparison/scratch-0', 'scratch', 0, 0.8, 5_000, 55.5)
    text = self.page()
    self.assertGreater(len(markup.plots(text)), 5)
    markup.check_page(self, text)

  def test_page_has_data_set_networks_and_recipe(self):
    words = self._visible_text()
    self.assertIn('resnet8x0.25 distilled from big.keras on digits', words)
    self.assertIn('"beta": 250.0', words)
    self.assertIn('"model": "/models/big.keras"', words)

  def test_page_holds_the_table_of_the_summary(self):
    words = self._visible_text()
    for row in summary.make_rows(summary.read_runs(self.root)):
      self.assertIn(' '.join(summary.format_cells(row)), words)

  def test_files_that_an_export_lacks_leave_gaps(self):
    teacher = compression_folder.export(800_000)
    dead = compression_folder.export(40_000)
    del teacher['student_fp16.tflite'], dead['student_int8.tflite']
    self.write_json('teacher/export/export.json', teacher)
    self.write_json('export/export.json', dead)
    words = self._visible_text()
    self.assertNotIn('smaller int8 file', words)
    row = summary.make_rows(summary.read_runs(self.root))[-1]
    self.assertEqual(summary.format_cells(row)[-4:], ['40,000', '-', '-', '-'])

  def test_page_holds_the_figures_of_every_exported_file(self):
    self.write_json('export/export.json', compression_folder.full_export(40000))
    words = self._visible_text()
    figures = '87.65 99.12 dog: 80.0 % (-2.5) 0.05 0.5'
    for line in (
      f'student.keras 80,000 {figures} - - -',
      f'saved_model 120,000 {figures} - - -',
      f'student_fp32.tflite 40,000 {figures} 0.123 uint8 float32',
      f'student_fp16.tflite 20,000 {figures} 0.123 uint8 float32',
      f'student_int8.tflite 10,000 {figures} 0.123 uint8 uint8',
      'student_int8.tflite 0.123 0.234 0.346 1',
      'Time for one image with one thread on x86_64, 2 cores.',
      'uint8 [1, 3], scale 0.25, zero point 128',
    ):
      self.assertIn(line, words)

  def test_files_of_an_older_version_have_gaps(self):
    words = self._visible_text()
    self.assertIn(
      'student_int8.tflite 10,000 87.65 99.12 - - 0.5 0.123 - -', words
    )
    self.assertNotIn('Model card', words)
    self.assertNotIn('Inputs and outputs', words)

  def test_page_shows_layers_and_the_common_latency(self):
    self.write_json('export/layers.json', compression_folder.studied(['conv1']))
    self.write_json('export/latency.json', compression_folder.measured(1, 2))
    words = self._visible_text()
    self.assertIn('Layers that lose most in int8', words)
    self.assertIn('conv1 99.50 0.012 99.50 0.012', words)
    self.assertIn('teacher, float32 0.500 0.600 0.700 3.2 0.250', words)
    self.assertIn('Fastest with 1 thread: student_int8.tflite', words)

  def test_page_links_to_the_model_card(self):
    self.folder.create_file('export/model_card.md', '# Card')
    links = markup.Elements(self.page()).links
    self.assertIn('./export/model_card.md', links)

  def test_page_has_the_errors_of_paraphraser_and_mean(self):
    words = self._visible_text()
    self.assertIn('reconstruction error on the test split is 0.123', words)
    self.assertIn(
      'the mean feature map as the answer to every image would give 0.568',
      words,
    )

  def test_teacher_has_plots_of_its_own(self):
    text = self.page()
    titles = re.findall(r'<figcaption>(.*?)</figcaption>', text)
    self.assertEqual(
      [html.unescape(title) for title in titles],
      [
        'Test accuracy against file size',
        'Validation accuracy by epoch',
        'Training cross entropy by epoch',
        'Factor loss by epoch (unweighted)',
        "Teacher's validation accuracy by epoch",
        "Teacher's training cross entropy by epoch",
      ],
    )
    students = markup.plots(text)[1:4]
    self.assertNotIn('>teacher<', ''.join(students))

  def test_students_of_a_given_teacher_stand_alone(self):
    os.remove(os.path.join(self.root.path, 'teacher/metrics.jsonl'))
    self.assertNotIn('<h3>Teacher</h3>', self.page())

  def test_folder_of_an_older_version_has_no_predictions(self):
    words = self._visible_text()
    self.assertNotIn('Predictions on the', words)
    self.assertIn(
      'Across the test split, then misclassified by the int8 file', words
    )

  def test_page_shows_predictions_by_class(self):
    self.write_predictions(['cat', 'dog', 'Käuzchen 鳥'])
    text = self.page()
    words = self._visible_text()
    self.assertIn('Predictions on the test split', words)
    self.assertIn('label \\ predicted cat dog Käuzchen 鳥 cat 6 2 0', words)
    # 8 images; teacher, student and int8 file have 1, 2 and 3 mistakes.
    self.assertIn('cat 0 8 87.5 75.0 62.5', words)
    self.assertIn('(balanced accuracy): teacher 87.5 %, student 75.0 %', words)
    self.assertIn('>Käuzchen 鳥</text>', text)

  def test_ratios_are_those_of_the_files(self):
    words = self._visible_text()
    for ratio in (
      '-5.00 points of test accuracy 90.00 %; teacher 95.00 %',
      '20x fewer parameters 5,000; teacher 100,000',
      '20x smaller int8 file 9.8 KiB; teacher 195.3 KiB',
    ):
      self.assertIn(ratio, words)

  def test_links_lead_to_files_beside_the_page(self):
    self.folder.create_file('export/student_int8.tflite', 'x')
    links = markup.Elements(self.page()).links
    self.assertIn('export/student_int8.tflite', links)
    self.assertIn('./student', links)
    for link in links:
      self.assertNotStartsWith(link, '/')
      if not link.startswith('export/'):
        self.assertTrue(
          os.path.exists(os.path.join(self.root.path, link)), link
        )

  def test_run_inside_a_comparison_links_to_it(self):
    root = run_dir.RunDir(self.create_tempdir().full_path)
    os.rename(self.root.path, os.path.join(root.path, 'mine'))
    self.root = root.child('mine')
    self.assertNotIn('../comparison.html', self.page())
    root.write('comparison.html', '')
    self.assertIn('href="../comparison.html"', self.page())

  def test_samples_stand_under_the_headings_of_their_groups(self):
    self.write_json(
      'samples.json',
      [
        {**compression_folder.sample('7'), 'chosen': 'spread'},
        {**compression_folder.sample('8', int8='1'), 'chosen': 'mistakes'},
      ],
    )
    words = self._visible_text()
    self.assertRegex(
      words,
      'Across the test split 7 .* Misclassified by the int8 file 8 .*int8: 1',
    )

  def test_page_has_every_command_and_its_environment(self):
    second = {
      **compression_folder.ENVIRONMENT,
      'command': ['python3', 'again.py'],
      'python': '4',
    }
    self.write_json(
      'environment.json', [compression_folder.ENVIRONMENT, second]
    )
    words = self._visible_text()
    self.assertIn('python3 bin/compress.py --recipe=digits', words)
    self.assertIn('2025-01-31T12:00:00+00:00, Python 3.11.7, x86_64', words)
    self.assertIn('tensorflow 2.21.0, keras 3.15.1.', words)
    self.assertIn('python3 again.py', words)

  def test_page_has_the_seconds_of_every_stage(self):
    self.write_run('comparison/scratch-0', 'scratch', 0, 0.8, 5_000, 55.5)
    self.assertIn(
      'Training time in seconds: teacher 120, paraphraser 30, '
      'comparison/scratch-0 56, student 61.',
      self._visible_text(),
    )

  def test_only_wrong_predictions_are_marked(self):
    self.write_json('samples.json', [compression_folder.sample('7', int8='1')])
    text = self.page()
    self.assertIn('int8: <span class="wrong">1 ✗</span>', text)
    self.assertIn('student: <span>7</span>', text)
    self.assertIn(f'src="data:image/png;base64,{compression_folder.PNG}"', text)

  def test_names_cannot_change_the_page(self):
    def write(names):
      self.write_predictions(names)
      export = compression_folder.full_export(40000)
      for entry in export.values():
        entry['worst_class']['label'] = names[0]
      self.write_json('export/export.json', export)
      self.write_json(
        'samples.json', [compression_folder.sample(names[0], int8=names[1])]
      )
      self.write_json(
        'environment.json',
        [{**compression_folder.ENVIRONMENT, 'command': names}],
      )
      recipe = {**compression_folder.RECIPE, 'teacher': {'model': names[0]}}
      self.write_json('recipe.json', recipe)
      return self.page()

    plain = write(['a', 'b', 'c', 'd', 'e'])
    text = write([*_EVIL, '$x_{$', '--><b>', ' id="a" url(#b)'])
    markup.check_page(self, text.replace('url(#b)', ''))
    for name in _EVIL:
      self.assertNotIn(name, text)
    without_plots = [
      markup.Elements(re.sub(r'<svg.*?</svg>', '', each, flags=re.S)).tags
      for each in (text, plain)
    ]
    self.assertEqual(*without_plots)
    self.assertEqual(
      *(
        {*markup.Elements(''.join(markup.plots(each))).tags}
        for each in (text, plain)
      )
    )
    self.assertIn(
      '> id=&quot;a&quot; url(#b)</text>'.replace('&quot;', '"'), text
    )

  def test_names_beyond_ascii_are_kept(self):
    self.write_json('samples.json', [compression_folder.sample('Käuzchen 鳥')])
    self.assertIn('Käuzchen 鳥', self.page())

  def test_run_without_a_paraphraser_has_no_paraphraser_error_or_time(self):
    os.remove(os.path.join(self.root.path, 'paraphraser/result.json'))
    self.write_run('student', 'scratch', 0, 0.9, 5_000, 60.6)
    words = self._visible_text()
    self.assertNotIn("paraphraser's", words)
    self.assertIn('Training time in seconds: teacher 120, student 61.', words)
    self.assertIn('No student that learns from the teacher', words)

  def test_second_report_replaces_the_first(self):
    page.write(self.root)
    self.write_run('student', 'ft', 0, 0.1234, 5_000, 60.6)
    text = self.page()
    self.assertIn('12.34', text)
    self.assertNotIn('90.00', text)


class VerdictTest(parameterized.TestCase):
  def _verdict(self, *further, **accuracies):
    parameters = {'teacher': 1000}
    return page.make_verdict(
      [
        *further,
        *(
          summary.Run(
            f'{method}-{seed}',
            {
              'method': method,
              'seed': seed,
              'accuracy': accuracy,
              'parameters': parameters.get(method, 80),
            },
            [],
            None,
          )
          for method, values in accuracies.items()
          for seed, accuracy in enumerate(values)
        ),
      ]
    )

  @parameterized.parameters('ft', 'kd')
  def test_student_is_compared_with_its_teacher(self, method):
    self.assertStartsWith(
      self._verdict(teacher=(0.95,), **{method: (0.9,)}),
      'The student reaches 90.00 % with 12.5 times fewer parameters than the '
      "teacher's 95.00 %.",
    )

  def test_verdict_without_a_baseline_tells_how_to_add_one(self):
    self.assertEndsWith(
      self._verdict(teacher=(0.95,), ft=(0.9,)),
      'There is no baseline (the same student trained without a teacher) to '
      'compare it with: add --baseline.',
    )

  def test_single_seed_gives_no_clear_difference(self):
    self.assertEndsWith(
      self._verdict(teacher=(0.95,), scratch=(0.88,), ft=(0.9,)),
      'Compared with the baseline (the same student trained without a '
      'teacher): +2.00 points over 1 paired seed: no clear difference (an '
      'interval needs at least 2 seeds).',
    )

  def test_verdict_has_gain_and_interval(self):
    self.assertEndsWith(
      # Student's t of two degrees of freedom at 97.5 % is 4.3027, the standard
      # error of 4, 5 and 6 points 1 / sqrt(3).
      self._verdict(
        teacher=(0.95,), scratch=(0.85, 0.86, 0.87), ft=(0.89, 0.91, 0.93)
      ),
      'teacher): +5.00 points over 3 paired seeds, 95 % interval +2.52 to '
      '+7.48: better.',
    )

  def test_negative_gain_has_its_sign(self):
    self.assertIn(
      'teacher): -2.00 points',
      self._verdict(teacher=(0.95,), scratch=(0.92,), ft=(0.9,)),
    )

  def test_methods_are_compared_before_int8_and_the_exported_one_is_named(self):
    result = {'method': 'ft', 'seed': 0, 'accuracy': 0.7, 'parameters': 80}
    further = summary.Run('qat', {**result, 'float_accuracy': 0.91}, [], None)
    text = self._verdict(further, teacher=(0.95,), scratch=(0.88,), ft=(0.9,))
    self.assertStartsWith(text, 'The student reaches 90.00 % with')
    self.assertIn(
      'exported student was trained further in int8 and has 91.00 % in float.',
      text,
    )
    self.assertIn('+2.00 points over 1 paired seed', text)

  def test_student_is_compared_with_a_linear_head_too(self):
    text = self._verdict(
      teacher=(0.95,), scratch=(0.88,), linear_head=(0.89,), ft=(0.9,)
    )
    self.assertIn(
      'Compared with the linear head on the frozen pretrained student: '
      '+1.00 points over 1 paired seed',
      text,
    )
    self.assertIn('teacher): +2.00 points', text)

  def test_verdict_without_a_distilled_student(self):
    self.assertEqual(
      self._verdict(teacher=(0.95,), linear_head=(0.8,)),
      'No student that learns from the teacher was trained in this run.',
    )
    self.assertEqual(
      self._verdict(teacher=(0.95,), scratch=(0.8,)),
      'No student that learns from the teacher was trained in this run.',
    )


if __name__ == '__main__':
  absltest.main()
