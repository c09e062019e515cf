"""Readers of CT volumes: MetaImage, DICOM, and the layout of LUNA16."""
