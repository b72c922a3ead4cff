"""DICOM Database: a local web application that makes every header element of every image searchable.

The layout and the import order are told in README.md and docs/architecture.md: a module imports only from the layers
below it, faces (views, api) stand on verbs (batches, imports, search), verbs on nouns (headers, index, storage, jobs).
"""
