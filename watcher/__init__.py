"""The watcher: tells the application which folders have arrived. It announces and never reads DICOM.

A folder directly below a watched root is one batch as soon as it is complete; everything else waits, and is shown with the
reason. The pattern: *the scan decides, events only make it fast*. Events get lost (a full queue, network mounts, a watcher
that was down), so no event ever makes a batch by itself. It marks a path and asks for a scan; the scan looks at the disk,
asks the database what is a batch already, and lets one pure function judge each entry.

``events``    what inotify says; the only module that knows pyinotify
``disk``      what a look at a watched root shows, and the counting of folders in bounded steps
``arrivals``  when is a folder complete? The rules, without a disk, a database or a clock
``presence``  one watcher a state folder: the lock, the pid file that is its status, and what it keeps over a restart
``loop``      puts them together: events, look, judge, claim, report

``python -m watcher development.ini`` starts it.
"""
