"""Tries it out on digits, or shows a student in the browser.

  ft-tf demo
  ft-tf demo --workdir=runs/demo --student_epochs=16
  ft-tf demo --export=runs/demo/export

A teacher, its paraphraser, and a student with and without factor transfer over
5 seeds, on 400 training digits that the installation holds (nothing is
downloaded). It is `ft-tf compress --recipe=digits --seeds=5 --baseline`; every
flag of that command may be given. The same command again continues, or reports
that it is complete.

With --export nothing is trained: it serves one page on 127.0.0.1, where the
student of an export folder classifies images that are dropped, pasted,
photographed or drawn. They stay in the browser. The page runs LiteRT.js, which
is fetched from the npm registry once (12 MB). Ctrl-C ends it.
"""

import os
import sys

from absl import flags

from ft_tf import errors, interrupts
from ft_tf.browser import exports, packages, server, site
from ft_tf.cli import compress, flag_sets, outcome

_WORKDIR = os.path.join('runs', 'demo')
_PORT = 8000
_AFTER_CTRL_C = 130  # which is how the page ends
_OF_THE_PAGE = ('port', 'litert')


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define(
    values, flag_sets.OTHER, 'workdir', _WORKDIR, 'output directory'
  )
  compress.define_all_but_workdir(values, seeds=5)
  values.set_default('recipe', 'digits')
  values.set_default('baseline', True)
  flag_sets.define(
    values,
    flag_sets.EXPORT,
    'export',
    None,
    'export folder of a student to try in the web browser; nothing is trained',
  )
  flag_sets.define(
    values,
    flag_sets.EXPORT,
    'port',
    _PORT,
    'port of the page of --export; 0: a free one',
    lower_bound=0,
    upper_bound=65535,
  )
  flag_sets.define(
    values,
    flag_sets.EXPORT,
    'litert',
    None,
    'folder with the npm packages of LiteRT.js, as tarballs or unpacked, for '
    '--export without a network (default: fetched once and cached)',
  )


def run(values: flags.FlagValues) -> outcome.Outcome:
  if values.export is not None:
    return _serve(values)
  for name in _OF_THE_PAGE:
    if values[name].present:
      raise errors.UsageError(
        f'--{name} is for the page of a student: add --export=DIR, or leave it '
        'out'
      )
  if values.data_dir is None:
    values.data_dir = os.path.join(values.workdir, 'data')
  return compress.run(values)


def _serve(values: flags.FlagValues) -> outcome.Outcome:
  """Serves the page of an export folder until Ctrl-C."""
  for name in values:
    if values[name].present and name not in ('export', 'json', *_OF_THE_PAGE):
      raise errors.UsageError(
        f'--export serves a page and trains nothing: leave out --{name}'
      )
  export = exports.read(values.export)
  litert = packages.read(values.litert)
  with server.Server(site.make(export, litert), values.port) as page:
    print(
      f'demo: {page.url} in the browser of this machine; Ctrl-C ends it',
      file=sys.stderr,
      flush=True,
    )
    try:
      page.serve_forever()
    except KeyboardInterrupt:
      if interrupts.exit_code() != _AFTER_CTRL_C:
        raise
  return outcome.Outcome({'url': page.url}, 'The page is closed.')
