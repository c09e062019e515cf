"""The formats of ``lungforge export``: a module each, and one line here.

A format is a class (``base.ExportFormat``), named by ``module:attribute``, so that a module and what it needs
are loaded only where its format is asked for.
"""

#: Name on the command line to class.
FORMATS = {
    "png": "services.export.formats.png:Png",
    "coco": "services.export.formats.coco:Coco",
    "yolo": "services.export.formats.yolo:Yolo",
    "nnunet": "services.export.formats.nnunet:NnUNet",
    "nifti": "services.export.formats.nifti:Nifti",
    "dicom": "services.export.formats.dicom:Dicom",
    "metaimage": "services.export.formats.metaimage:MetaImage",
    "imagefolder": "services.export.formats.imagefolder:ImageFolder",
}
