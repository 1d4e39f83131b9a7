"""Tasks and their images: sources, files, content ids, query sets, contact sheets."""
