"""What a distillation shows of itself; tests/api_test.py has the rest."""

from absl.testing import absltest

from ft_tf import results


class ResultTest(absltest.TestCase):
  def test_table_of_a_notebook_has_its_texts_escaped(self):
    result = results.Result(
      model=None,
      accuracy=0.5,
      history={},
      table='',
      files={},
      report='/a&b/report.html',
      workdir='/a&b',
      _cells=[['student, <b>', *['-'] * 8]],
    )
    page = result._repr_html_()
    self.assertIn('<td>student, &lt;b&gt;</td>', page)
    self.assertIn('/a&amp;b/report.html', page)


if __name__ == '__main__':
  absltest.main()
