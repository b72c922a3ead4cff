"""The workers: processes that do what the job table owes.

``__main__`` starts and supervises them, ``consumer`` turns doorbells into calls, ``tasks`` names the handler of each kind of job.
**The consumer knows nothing of the domain, and the handlers nothing of the broker.** A handler ends its job in the
transaction that does the work (``jobs.finish``); the message is acknowledged afterwards, whatever happened, because the job
table and not the broker remembers what is owed.
"""
