import './api.test';
import './markdown.test';
import './transfer.test';
import './tree.test';
