"""Tables of run folders, compared with values calculated by hand."""

import json
import os
import subprocess
import sys

from absl.testing import absltest

from ft_tf import run_dir
from ft_tf.report import summary


def _export(size):
  """Returns an `export.json`: float32 has `size` bytes, int8 a quarter."""
  return {
    'student_fp32.tflite': {'bytes': size, 'accuracy': 0.9},
    'student_int8.tflite': {
      'bytes': size // 4,
      'accuracy': 0.875,
      'latency_ms': {'p50': 0.1234, 'p90': 0.2, 'p99': 0.3, 'threads': 1},
    },
  }


def _row(method='ft', accuracies=(0.5,), parameters=1234, export=None):
  return summary.Row(method, tuple(accuracies), parameters, export)


class RunsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._scratch = self.create_tempdir()
    self._root = run_dir.RunDir(self._scratch.full_path)

  def _write(self, name, value):
    self._scratch.create_file(name, json.dumps(value))

  def _run(self, name, method, seed, accuracy, parameters=100):
    self._write(
      f'{name}/result.json',
      {
        'method': method,
        'seed': seed,
        'accuracy': accuracy,
        'parameters': parameters,
      },
    )

  def _compression(self):
    """Writes a teacher, four distilled students and one baseline."""
    self._run('teacher', 'teacher', 0, 0.95, 4000)
    self._run('student', 'ft', 0, 0.9)
    self._run('comparison/ft-1', 'ft', 1, 0.8)
    self._run('comparison/ft-10', 'ft', 10, 0.85)
    self._run('comparison/ft-2', 'ft', 2, 0.7)
    self._run('comparison/scratch-0', 'scratch', 0, 0.6)

  def test_runs_come_teacher_first_then_by_method_and_seed(self):
    self._compression()
    self.assertEqual(
      [run.name for run in summary.read_runs(self._root)],
      [
        'teacher',
        'comparison/scratch-0',
        'student',
        'comparison/ft-1',
        'comparison/ft-2',
        'comparison/ft-10',
      ],
    )

  def _continue(self, name, method, seed, accuracy, float_accuracy):
    self._write(
      f'{name}/result.json',
      {
        'method': method,
        'seed': seed,
        'accuracy': accuracy,
        'float_accuracy': float_accuracy,
        'parameters': 100,
      },
    )

  def test_network_trained_further_has_a_row_of_its_own_with_its_export(self):
    self._compression()
    self._run('comparison/scratch-1', 'scratch', 1, 0.65)
    self._write('comparison/scratch-0/export/export.json', _export(50))
    self._write('comparison/scratch-1/export/export.json', _export(60))
    self._write('export/export.json', _export(70))
    before = summary.make_rows(summary.read_runs(self._root))
    self.assertEqual(
      [(row.method, row.export) for row in before],
      [
        ('teacher', None),
        ('scratch', _export(50)),
        ('ft', _export(70)),
      ],
    )
    self._continue('qat', 'ft', 0, 0.87, 0.91)
    self._continue('qat-scratch', 'scratch', 0, 0.57, 0.61)
    self._write('export-before-qat/export.json', _export(80))
    rows = summary.make_rows(summary.read_runs(self._root))
    self.assertEqual(
      [(row.label, row.accuracies, row.export) for row in rows],
      [
        ('teacher', (0.95,), None),
        # That of seed 0 was not exported before; seed 1 is no part of it.
        ('baseline (no teacher)', (0.6, 0.65), _export(60)),
        (
          'baseline (no teacher), trained further in int8',
          (0.61,),
          _export(50),
        ),
        ('student, factor transfer', (0.9, 0.8, 0.7, 0.85), _export(80)),
        (
          'student, factor transfer, trained further in int8',
          (0.91,),
          _export(70),
        ),
      ],
    )
    self.assertEqual(
      summary.exported_method(row.method for row in rows), rows[-1].method
    )
    self.assertEqual(
      summary.exported_method(row.method for row in before), 'ft'
    )
    self.assertEqual(summary.trained_first(rows[-1].method), 'ft')

  def test_baseline_is_what_was_exported_where_no_other_was_trained(self):
    self.assertEqual(summary.exported_method(['teacher', 'scratch']), 'scratch')
    self.assertEqual(
      summary.exported_method(['teacher', 'linear_head']), 'linear_head'
    )

  def test_linear_head_is_no_distilled_student_and_follows_the_baseline(self):
    self._compression()
    self._run('comparison/linear_head-0', 'linear_head', 0, 0.65)
    rows = summary.make_rows(summary.read_runs(self._root))
    self.assertEqual(
      [row.label for row in rows],
      [
        'teacher',
        'baseline (no teacher)',
        'linear head on frozen pretrained weights',
        'student, factor transfer',
      ],
    )
    self.assertEqual(summary.exported_method(row.method for row in rows), 'ft')

  def test_run_without_a_result_is_left_out(self):
    self._compression()
    self._write('comparison/ft-3/recipe.json', {})
    os.remove(os.path.join(self._root.path, 'comparison/ft-1/result.json'))
    names = [run.name for run in summary.read_runs(self._root)]
    self.assertNotIn('comparison/ft-1', names)
    self.assertNotIn('comparison/ft-3', names)
    self.assertLen(names, 5)

  def test_folder_without_runs_gives_none(self):
    self.assertEmpty(summary.read_runs(self._root))
    self.assertEmpty(summary.make_rows([]))

  def test_given_teacher_has_no_seed(self):
    self._compression()
    self._run('teacher', 'teacher', None, 0.95)
    self.assertEqual(summary.read_runs(self._root)[0].name, 'teacher')

  def test_students_export_is_in_the_compressions_folder(self):
    self._compression()
    self._write('export/export.json', _export(1000))
    self._write('teacher/export/export.json', _export(8000))
    by_name = {run.name: run.export for run in summary.read_runs(self._root)}
    self.assertEqual(by_name['student'], _export(1000))
    self.assertEqual(by_name['teacher'], _export(8000))
    self.assertIsNone(by_name['comparison/scratch-0'])

  def test_runs_have_their_metrics(self):
    self._compression()
    rows = [{'step': 1, 'loss': 2.0}, {'step': 2, 'loss': 1.0}]
    self._scratch.create_file(
      'student/metrics.jsonl', ''.join(json.dumps(r) + '\n' for r in rows)
    )
    by_name = {run.name: run.metrics for run in summary.read_runs(self._root)}
    self.assertEqual(by_name['student'], rows)
    self.assertEmpty(by_name['teacher'])

  def test_rows_combine_the_seeds_of_a_method(self):
    self._compression()
    self._write('export/export.json', _export(1000))
    teacher, scratch, ft = summary.make_rows(summary.read_runs(self._root))
    self.assertEqual(teacher, _row('teacher', [0.95], 4000))
    self.assertEqual(scratch, _row('scratch', [0.6], 100))
    self.assertEqual(ft, _row('ft', [0.9, 0.8, 0.7, 0.85], 100, _export(1000)))

  def test_reading_writes_nothing(self):
    self._compression()
    before = sorted(os.walk(self._root.path))
    summary.make_rows(summary.read_runs(self._root))
    self.assertEqual(sorted(os.walk(self._root.path)), before)


class RowTest(absltest.TestCase):
  def test_mean_and_deviation_are_those_of_a_sample(self):
    # Deviations -0.1, 0, 0.1: their squares sum to 0.02, over n - 1 = 2.
    row = _row(accuracies=(0.7, 0.8, 0.9))
    self.assertAlmostEqual(row.mean, 0.8)
    self.assertAlmostEqual(row.std, 0.1)

  def test_single_seed_has_no_deviation(self):
    row = _row(accuracies=(0.7,))
    self.assertEqual(row.mean, 0.7)
    self.assertIsNone(row.std)

  def test_bytes_are_those_of_the_file_or_none_without_an_export(self):
    row = _row(export=_export(1000))
    self.assertEqual(row.bytes('student_fp32.tflite'), 1000)
    self.assertEqual(row.bytes('student_int8.tflite'), 250)
    self.assertIsNone(_row().bytes('student_fp32.tflite'))

  def test_every_method_has_a_label_in_words(self):
    self.assertEqual(_row('teacher').label, 'teacher')
    self.assertEqual(_row('scratch').label, 'baseline (no teacher)')
    self.assertEqual(_row('ft').label, 'student, factor transfer')
    self.assertEqual(_row('at+kd').label, 'student, at+kd')


class CellsTest(absltest.TestCase):
  def test_cells_of_an_exported_method_match_the_header(self):
    row = _row('ft', (0.7, 0.8, 0.9), 1_234_567, _export(50_000))
    self.assertEqual(
      dict(zip(summary.HEADER, summary.format_cells(row), strict=True)),
      {
        '': 'student, factor transfer',
        'accuracy %': '80.00',
        'std': '10.00',
        'seeds': '3',
        'parameters': '1,234,567',
        'TFLite float32 bytes': '50,000',
        'TFLite int8 bytes': '12,500',
        'int8 accuracy %': '87.50',
        'int8 ms': '0.123',
      },
    )

  def test_unknown_value_is_a_dash(self):
    cells = summary.format_cells(_row('scratch', (0.5,), 10))
    self.assertEqual(
      cells,
      ['baseline (no teacher)', '50.00', '-', '1', '10', '-', '-', '-', '-'],
    )


class MarkdownTest(absltest.TestCase):
  def _table(self):
    return summary.to_markdown(
      [
        _row('teacher', (0.95,), 855_770, _export(3_400_000)),
        _row('ft', (0.7, 0.8, 0.9), 272_474, _export(1_100_000)),
        _row('scratch', (0.05,), 4),
      ]
    ).split('\n')

  def test_columns_are_aligned(self):
    lines = self._table()
    bars = [[i for i, c in enumerate(line) if c == '|'] for line in lines]
    for line in bars:
      self.assertEqual(line, bars[0])
    self.assertLen(bars[0], len(summary.HEADER) + 1)

  def test_second_line_aligns_numbers_to_the_right(self):
    rule = self._table()[1].strip('|').split('|')
    self.assertRegex(rule[0], '^-+$')
    for cell in rule[1:]:
      self.assertRegex(cell, '^-+:$')

  def test_lines_hold_header_and_cells(self):
    header, _, *rest = (
      [cell.strip() for cell in line.strip('|').split('|')]
      for line in self._table()
    )
    self.assertEqual(header, summary.HEADER)
    self.assertLen(rest, 3)
    self.assertEqual(
      rest[1],
      [
        'student, factor transfer',
        '80.00',
        '10.00',
        '3',
        '272,474',
        '1,100,000',
        '275,000',
        '87.50',
        '0.123',
      ],
    )


class ImportTest(absltest.TestCase):
  def test_reports_import_no_tensorflow(self):
    code = (
      'import sys; from ft_tf.report import comparison, page, plots, summary;'
      'heavy = {"tensorflow", "keras", "tensorflow_datasets"};'
      'print(sorted(heavy & set(sys.modules)))'
    )
    answer = subprocess.run(
      [sys.executable, '-c', code],
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
      capture_output=True,
      text=True,
      check=True,
    )
    self.assertEqual(answer.stdout.strip(), '[]')


if __name__ == '__main__':
  absltest.main()
