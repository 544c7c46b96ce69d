"""bin/audit, with a stand-in for the program that looks vulnerabilities up."""

import json
import os
import subprocess

from absl.testing import absltest

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SAFE = {'name': 'safe', 'version': '1.0', 'vulns': []}
_SKIPPED = {'name': 'odd', 'skip_reason': 'not found'}
_BAD = {
  'name': 'bad',
  'version': '2.0',
  'vulns': [{'id': 'CVE-2026-1', 'fix_versions': ['2.1']}],
}


class AuditTest(absltest.TestCase):
  def _audit(self, printed, code=0):
    folder = self.create_tempdir()
    program = folder.create_file(
      'pip-audit', f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\nexit {code}\n"
    )
    os.chmod(program.full_path, 0o755)
    path = f'{folder.full_path}{os.pathsep}{os.environ["PATH"]}'
    return subprocess.run(
      [os.path.join(_ROOT, 'bin', 'audit')],
      env={**os.environ, 'PATH': path},
      capture_output=True,
      text=True,
      check=False,
    )

  def _audit_packages(self, *packages, code=0):
    return self._audit(
      json.dumps({'dependencies': packages, 'fixes': []}), code
    )

  def test_exit_code_tells_what_is_known(self):
    self.assertEqual(self._audit_packages(_SAFE).returncode, 0)
    done = self._audit_packages(_SAFE, _BAD, _SKIPPED, code=1)
    self.assertEqual(done.returncode, 1)
    self.assertEqual(done.stdout, 'bad==2.0: CVE-2026-1, fixed in 2.1\n')

  def test_packages_that_were_not_looked_up_are_not_safe(self):
    done = self._audit_packages(_SAFE, _SKIPPED)
    self.assertEqual(done.returncode, 3)
    self.assertEqual(done.stderr, 'looked up 1 of 2 packages\n')
    self.assertEqual(self._audit_packages().returncode, 3)

  def test_database_that_is_not_reached_is_a_line(self):
    done = self._audit('', code=1)
    self.assertEqual(done.returncode, 3)
    self.assertEqual(
      done.stderr, 'no database of vulnerabilities was reached\n'
    )


if __name__ == '__main__':
  absltest.main()
