"""Several processes that serve as one: a supervisor and its workers.

* `supervisor` binds the sockets, starts and replaces workers, and speaks for all; it
  serves no exchange and holds no key of a keyring.
* `worker` serves, from sockets and settings that it was given.
* `child` is a worker as the supervisor has it; `channel` is what the two talk over, in
  `frames`; `standing` is what a worker tells of itself, of all taken together.

docs/adr/0016-workers.md says why.
"""
