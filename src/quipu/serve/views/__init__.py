"""What each page of evidence tells: from a moment's evidence to the names that its template, HTML or Markdown, has."""
