"""What Python itself does while a command runs: writes, processes, network."""

import inspect
import os
import sys

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = {
  'os.mkdir',
  'os.remove',
  'os.rename',
  'os.rmdir',
  'os.symlink',
  'os.link',
  'os.truncate',
  'os.chmod',
}
_FORBIDDEN = {
  'subprocess.Popen',
  'os.system',
  'os.exec',
  'os.posix_spawn',
  'os.fork',
  'pickle.find_class',
  'marshal.loads',
}
_WORKER = 'ft_tf.export.memory_worker'


class Watch:
  """What Python does while a command runs, by its audit events.

  A hook of this kind cannot be removed; `root` turns it on.
  """

  def __init__(self):
    self.root, self.seen = '', []
    sys.addaudithook(self)

  def __call__(self, event, arguments):
    if not self.root:
      return
    if event in ('socket.connect', 'socket.getaddrinfo'):
      raise OSError(101, 'Network is unreachable')
    if event == 'open':
      path, mode, flags = arguments
      if isinstance(path, int) or not (
        (isinstance(mode, str) and {*'wax+'} & {*mode}) or flags & _WRITING
      ):
        return
      if os.path.isdir(path):
        return  # Python names the folder of a file without a name so.
    elif event in _CHANGING:
      path = arguments[1 if event == 'os.symlink' else 0]
    elif event == 'subprocess.Popen' and _WORKER in (arguments[1] or ()):
      return  # It runs a .tflite file.
    elif event in _FORBIDDEN:
      caller = inspect.currentframe().f_back
      if caller.f_code.co_filename.startswith('<frozen importlib'):
        return  # A module of the library's own is imported.
      self.seen.append(f'{event} {arguments!r:.200}')
      return
    else:
      return
    if isinstance(path, (str, bytes)):
      real = os.path.realpath(os.fsdecode(path))
      # Devices and the kernel's folders keep nothing.
      kept_nowhere = ('/dev/', '/proc/', '/sys/')
      if not os.path.join(real, '').startswith((self.root, *kept_nowhere)):
        self.seen.append(f'{event} {real}')


# The one of this process.
watch = Watch()
