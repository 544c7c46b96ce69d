"""The HTML report: self-contained, with the results of the run folders."""

import html
import json
import os
import re
from html import parser

from absl.testing import absltest, parameterized

from ft_tf import run_dir
from ft_tf.report import page, summary

# The smallest PNG: one transparent pixel.
_PNG = (
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk'
  '+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
)
_RECIPE = {
  'seed': 0,
  'data': {'dataset': 'digits', 'test_split': 'test'},
  'teacher': {'model': '/models/big.keras'},
  'student': {'model': 'resnet8x0.25', 'beta': 250.0},
}
_ENVIRONMENT = {
  'command': ['python3', 'bin/compress.py', '--recipe=digits'],
  'started': '2025-01-31T12:00:00+00:00',
  'python': '3.11.7',
  'machine': 'x86_64, 2 cores',
  'packages': {'tensorflow': '2.21.0', 'keras': '3.15.1'},
}


def _export(size):
  plain = {'accuracy': 0.8765, 'agreement': 0.9912, 'max_logit_difference': 0.5}
  latency = {'p50': 0.1234, 'p90': 0.2345, 'p99': 0.3456, 'threads': 1}
  return {
    'student.keras': {**plain, 'bytes': 2 * size},
    'saved_model': {**plain, 'bytes': 3 * size},
    'student_fp32.tflite': {**plain, 'bytes': size, 'latency_ms': latency},
    'student_fp16.tflite': {**plain, 'bytes': size // 2, 'latency_ms': latency},
    'student_int8.tflite': {**plain, 'bytes': size // 4, 'latency_ms': latency},
  }


def _metrics(*accuracies):
  return [
    {
      'step': epoch,
      'epoch': epoch,
      'cross_entropy': 1 / epoch,
      'factor_transfer': 0.01 / epoch,
      'validation_accuracy': accuracy,
    }
    for epoch, accuracy in enumerate(accuracies, start=1)
  ]


def _sample(label='7', **predictions):
  return {
    'png': _PNG,
    'label': label,
    **{
      model: predictions.get(model, label)
      for model in ('teacher', 'student', 'int8')
    },
  }


class _Page(parser.HTMLParser):
  """Collects tags, ids and the addresses that a browser would load."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.loads, self.ids = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    for name, value in attrs:
      if name in ('src', 'href', 'xlink:href', 'srcset', 'data', 'poster'):
        self.loads.append(value)
      if name == 'id':
        self.ids.append(value)


class WriteTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._scratch = self.create_tempdir()
    self._root = run_dir.RunDir(self._scratch.full_path)
    self._write('recipe.json', _RECIPE)
    self._write('environment.json', [_ENVIRONMENT])
    self._write('export/export.json', _export(40_000))
    self._write('samples.json', [_sample()])
    self._run('teacher', 'teacher', 0, 0.95, 100_000, 120.4)
    self._run('student', 'ft', 0, 0.9, 5_000, 60.6)
    self._write('teacher/export/export.json', _export(800_000))
    self._write(
      'paraphraser/result.json',
      {
        'reconstruction': 0.1234,
        'reconstruction_of_mean': 0.5678,
        'wall_seconds': 30.2,
      },
    )

  def _write(self, name, value):
    self._scratch.create_file(name, json.dumps(value))

  def _run(self, name, method, seed, accuracy, parameters, seconds):
    self._write(
      f'{name}/result.json',
      {
        'method': method,
        'seed': seed,
        'accuracy': accuracy,
        'parameters': parameters,
        'wall_seconds': seconds,
      },
    )
    self._scratch.create_file(
      f'{name}/metrics.jsonl',
      ''.join(json.dumps(row) + '\n' for row in _metrics(0.5, accuracy)),
    )

  def _page(self):
    """Returns the page as text."""
    with open(page.write(self._root), encoding='utf-8') as file:
      return file.read()

  def _visible_text(self):
    """Returns the text that a browser shows, on one line."""
    text = re.sub(r'<(style|svg)\b.*?</\1>', ' ', self._page(), flags=re.S)
    return ' '.join(html.unescape(re.sub(r'<[^>]*>', ' ', text)).split())

  def test_page_leaves_no_temporary_files(self):
    path = page.write(self._root)
    self.assertEqual(path, os.path.join(self._root.path, 'report.html'))
    hidden = [n for n in os.listdir(self._root.path) if n.startswith('.')]
    self.assertEmpty(hidden)

  def test_page_loads_nothing_from_outside(self):
    text = self._page()
    elements = _Page(text)
    self.assertNotEmpty(elements.loads)
    for load in elements.loads:
      self.assertRegex(load, '^(#|data:)')
    for tag in ('script', 'link', 'iframe', 'object', 'embed', 'base'):
      self.assertNotIn(tag, elements.tags)
    self.assertNotIn('@import', text)
    for address in re.findall(r'url\(([^)]*)\)', text):
      self.assertStartsWith(address.strip('\'"'), '#')

  def test_clip_paths_of_plots_have_different_ids(self):
    text = self._page()
    ids = _Page(text).ids
    for clip in set(re.findall(r'clip-path="url\(#(\w+)\)"', text)):
      self.assertEqual(ids.count(clip), 1, clip)

  def test_page_has_data_set_networks_and_recipe(self):
    words = self._visible_text()
    self.assertIn('resnet8x0.25 distilled from big.keras on digits', words)
    self.assertIn('"beta": 250.0', words)
    self.assertIn('"model": "/models/big.keras"', words)

  def test_page_holds_the_table_of_the_summary(self):
    words = self._visible_text()
    for row in summary.make_rows(summary.read_runs(self._root)):
      self.assertIn(' '.join(summary.format_cells(row)), words)

  def test_page_holds_the_figures_of_every_exported_file(self):
    words = self._visible_text()
    for line in (
      'export/student.keras 80,000 87.65 99.12 0.5 - - - -',
      'export/saved_model 120,000 87.65 99.12 0.5 - - - -',
      'export/student_fp32.tflite 40,000 87.65 99.12 0.5 0.123 0.234 0.346 1',
      'export/student_fp16.tflite 20,000 87.65 99.12 0.5 0.123 0.234 0.346 1',
      'export/student_int8.tflite 10,000 87.65 99.12 0.5 0.123 0.234 0.346 1',
    ):
      self.assertIn(line, words)

  def test_page_has_the_errors_of_paraphraser_and_mean(self):
    words = self._visible_text()
    self.assertIn('reconstruction error on the test split is 0.123', words)
    self.assertIn(
      'the mean feature map as the answer to every image would give 0.568',
      words,
    )

  def test_page_holds_all_four_plots(self):
    text = self._page()
    self.assertEqual(text.count('<svg'), 4)
    for title in (
      'Validation accuracy by epoch',
      'Training cross entropy by epoch',
      'Factor loss by epoch (unweighted)',
      'Test accuracy against file size',
    ):
      self.assertIn(f'<figcaption>{title}</figcaption>', text)

  def test_page_has_every_command_and_its_environment(self):
    second = {**_ENVIRONMENT, 'command': ['python3', 'again.py'], 'python': '4'}
    self._write('environment.json', [_ENVIRONMENT, second])
    words = self._visible_text()
    self.assertIn('python3 bin/compress.py --recipe=digits', words)
    self.assertIn('2025-01-31T12:00:00+00:00, Python 3.11.7, x86_64', words)
    self.assertIn('tensorflow 2.21.0, keras 3.15.1.', words)
    self.assertIn('python3 again.py', words)

  def test_page_has_the_seconds_of_every_stage(self):
    self._run('comparison/scratch-0', 'scratch', 0, 0.8, 5_000, 55.5)
    self.assertIn(
      'Training time in seconds: teacher 120, paraphraser 30, '
      'comparison/scratch-0 56, student 61.',
      self._visible_text(),
    )

  def test_only_wrong_predictions_are_marked(self):
    self._write('samples.json', [_sample('7', int8='1')])
    text = self._page()
    self.assertIn('int8: <span class="wrong">1</span>', text)
    self.assertIn('student: <span>7</span>', text)
    self.assertIn(f'src="data:image/png;base64,{_PNG}"', text)

  def test_label_names_cannot_change_the_page(self):
    evil = '"><script>alert(1)</script>&<b>'
    self._write('samples.json', [_sample(evil, int8='<i>dog</i>')])
    text = self._page()
    self.assertNotIn('<script', text)
    self.assertNotIn('<i>', text)
    self.assertIn(html.escape(evil).replace('&quot;', '&#34;'), text)

  def test_command_and_recipe_cannot_change_the_page(self):
    self._write('environment.json', [{**_ENVIRONMENT, 'command': ['<u>']}])
    self._write(
      'recipe.json', {**_RECIPE, 'teacher': {'model': '<u></pre>.keras'}}
    )
    self.assertNotIn('<u>', self._page())

  def test_names_beyond_ascii_are_kept(self):
    self._write('samples.json', [_sample('Käuzchen 鳥')])
    self.assertIn('Käuzchen 鳥', self._page())

  def test_run_without_a_paraphraser_has_no_paraphraser_error_or_time(self):
    os.remove(os.path.join(self._root.path, 'paraphraser/result.json'))
    self._run('student', 'scratch', 0, 0.9, 5_000, 60.6)
    words = self._visible_text()
    self.assertNotIn("paraphraser's", words)
    self.assertIn('Training time in seconds: teacher 120, student 61.', words)
    self.assertIn('No student that learns from the teacher', words)

  def test_second_report_replaces_the_first(self):
    page.write(self._root)
    self._run('student', 'ft', 0, 0.1234, 5_000, 60.6)
    text = self._page()
    self.assertIn('12.34', text)
    self.assertNotIn('90.00', text)


class VerdictTest(parameterized.TestCase):
  def _verdict(self, **accuracies):
    parameters = {'teacher': 1000}
    return page.make_verdict(
      [
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

  def test_verdict_without_a_distilled_student(self):
    self.assertEqual(
      self._verdict(teacher=(0.95,), scratch=(0.8,)),
      'No student that learns from the teacher was trained in this run.',
    )


if __name__ == '__main__':
  absltest.main()
