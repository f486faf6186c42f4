"""Reports: a StudyResult as one HTML file and as Markdown."""
