"""The DIMSE listener (PS3.4, PS3.7): C-ECHO, C-STORE and C-FIND for modalities and archives that do not speak DICOMweb.

``__main__`` starts it, ``listener`` accepts associations within bounds, ``associations`` is what one of them has sent so far,
``finding`` answers C-FIND from the searches of DICOMweb. An association is a batch: its objects are written to the disk one
by one, each is told as stored only when it is durable, and with the end of the association, however it comes, they go
through the pipeline of dropped folders. **DIMSE knows no password**; who may call is said by AE titles, which anybody can claim, so
it is off until it is asked for, and by itself reachable from this machine only.
"""
